// The npm package oidc-provider as the issuer of a test. It signs the user alice in without pages.
// Arguments: the redirect URI, the URI for back-channel logout, the client's secret, the audience of access tokens
// ("" for opaque ones, which the user information accepts). Prints its issuer.
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const [redirectUri, logoutUri, secret, audience] = process.argv.slice(2);
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const jwk = (type, options, more) => ({
    ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), use: 'sig', ...more,
  });
  const groups = ['staff', 'managers'];
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'fanzfiliate',
      client_secret: secret,
      redirect_uris: [redirectUri],
      backchannel_logout_uri: logoutUri,
      backchannel_logout_session_required: true,
    }],
    jwks: { keys: [jwk('rsa', { modulusLength: 2048 }, { kid: 'one' }), jwk('ec', { namedCurve: 'P-256' }, { kid: 'two' })] },
    cookies: { keys: ['a key of the test'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    scopes: ['openid', 'email', 'groups', 'fanzfiliate'],
    conformIdTokenClaims: audience === '',
    findAccount: (ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true, groups }),
    }),
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({
        clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId,
      });
      grant.addOIDCScope('openid email groups fanzfiliate');
      if (audience) grant.addResourceScope(audience, 'fanzfiliate');
      await grant.save();
      return grant;
    },
    interactions: { url: (ctx, interaction) => `/sign-in/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      resourceIndicators: {
        enabled: audience !== '',
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'fanzfiliate', audience, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    pkce: { required: () => true },
    // Its own function refuses addresses of this machine.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  });
  for (const event of ['server_error', 'backchannel.error']) {
    provider.on(event, (ctx, error) => console.error(event, error));
  }
  const handle = provider.callback();
  server.on('request', async (request, response) => {
    if (request.url.startsWith('/sign-in/')) {
      await provider.interactionFinished(request, response, { login: { accountId: 'alice' } });
    } else {
      handle(request, response);
    }
  });
  console.log(issuer);
});
// The test's end closes the pipe.
process.stdin.resume().on('end', () => process.exit());
