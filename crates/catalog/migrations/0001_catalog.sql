-- The catalog: networks and all that they own. Integers and texts only, no keys between tables: objects are never
-- deleted, and a move to another database copies table by table. No rows either: the target of a move must be empty.

-- One row: the number of the last change, and the time up to which dates were recorded. Every writer locks it first.
CREATE TABLE catalog_head (
  one BIGINT NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL,
  clock BIGINT NOT NULL
);

-- The last id of each kind.
CREATE TABLE catalog_ids (
  kind TEXT NOT NULL PRIMARY KEY,
  last BIGINT NOT NULL
);

-- Every change: the audit log, and the source of what is sent to the edges.
CREATE TABLE catalog_changes (
  version BIGINT NOT NULL PRIMARY KEY,
  time BIGINT NOT NULL,
  author_kind TEXT NOT NULL,
  author_id TEXT NOT NULL,
  author_address TEXT NOT NULL,
  action TEXT NOT NULL,
  kind TEXT NOT NULL,
  object BIGINT NOT NULL,
  network BIGINT NOT NULL,
  before_json TEXT NOT NULL,
  after_json TEXT NOT NULL,
  affects_links BIGINT NOT NULL
);
CREATE INDEX catalog_changes_network ON catalog_changes (network, version);
CREATE INDEX catalog_changes_object ON catalog_changes (kind, object, version);

-- Names that one object of the installation has, with their scope, such as 'offer:1/spring'; those of links with their
-- domain.
CREATE TABLE catalog_reservations (
  name TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  object BIGINT NOT NULL,
  domain TEXT NOT NULL
);
CREATE INDEX catalog_reservations_domain ON catalog_reservations (domain) WHERE domain <> '';
CREATE INDEX catalog_reservations_object ON catalog_reservations (kind, object);

CREATE TABLE catalog_secrets (
  kind TEXT NOT NULL,
  object BIGINT NOT NULL,
  label TEXT NOT NULL,
  value TEXT NOT NULL,
  updated BIGINT NOT NULL,
  PRIMARY KEY (kind, object, label)
);

-- One table for each kind, with the same columns: a column of parents is 0 where the kind has no such parent.
CREATE TABLE catalog_networks (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_networks_network ON catalog_networks (network, id);
CREATE INDEX catalog_networks_label ON catalog_networks (network, label, id);
CREATE INDEX catalog_networks_created ON catalog_networks (network, created, id);
CREATE INDEX catalog_networks_updated ON catalog_networks (network, updated, id);

CREATE TABLE catalog_platforms (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_platforms_network ON catalog_platforms (network, id);
CREATE INDEX catalog_platforms_label ON catalog_platforms (network, label, id);
CREATE INDEX catalog_platforms_created ON catalog_platforms (network, created, id);
CREATE INDEX catalog_platforms_updated ON catalog_platforms (network, updated, id);

CREATE TABLE catalog_advertisers (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_advertisers_network ON catalog_advertisers (network, id);
CREATE INDEX catalog_advertisers_label ON catalog_advertisers (network, label, id);
CREATE INDEX catalog_advertisers_created ON catalog_advertisers (network, created, id);
CREATE INDEX catalog_advertisers_updated ON catalog_advertisers (network, updated, id);

CREATE TABLE catalog_offers (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_offers_network ON catalog_offers (network, id);
CREATE INDEX catalog_offers_label ON catalog_offers (network, label, id);
CREATE INDEX catalog_offers_created ON catalog_offers (network, created, id);
CREATE INDEX catalog_offers_updated ON catalog_offers (network, updated, id);
CREATE INDEX catalog_offers_advertiser ON catalog_offers (advertiser, id);
CREATE INDEX catalog_offers_starts ON catalog_offers (starts) WHERE starts IS NOT NULL;
CREATE INDEX catalog_offers_ends ON catalog_offers (ends) WHERE ends IS NOT NULL;

CREATE TABLE catalog_affiliates (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_affiliates_network ON catalog_affiliates (network, id);
CREATE INDEX catalog_affiliates_label ON catalog_affiliates (network, label, id);
CREATE INDEX catalog_affiliates_created ON catalog_affiliates (network, created, id);
CREATE INDEX catalog_affiliates_updated ON catalog_affiliates (network, updated, id);

CREATE TABLE catalog_applications (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_applications_network ON catalog_applications (network, id);
CREATE INDEX catalog_applications_label ON catalog_applications (network, label, id);
CREATE INDEX catalog_applications_created ON catalog_applications (network, created, id);
CREATE INDEX catalog_applications_updated ON catalog_applications (network, updated, id);
CREATE INDEX catalog_applications_affiliate ON catalog_applications (affiliate, id);
CREATE INDEX catalog_applications_offer ON catalog_applications (offer, id);

CREATE TABLE catalog_campaigns (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_campaigns_network ON catalog_campaigns (network, id);
CREATE INDEX catalog_campaigns_label ON catalog_campaigns (network, label, id);
CREATE INDEX catalog_campaigns_created ON catalog_campaigns (network, created, id);
CREATE INDEX catalog_campaigns_updated ON catalog_campaigns (network, updated, id);
CREATE INDEX catalog_campaigns_affiliate ON catalog_campaigns (affiliate, id);
CREATE INDEX catalog_campaigns_offer ON catalog_campaigns (offer, id);
CREATE INDEX catalog_campaigns_starts ON catalog_campaigns (starts) WHERE starts IS NOT NULL;
CREATE INDEX catalog_campaigns_ends ON catalog_campaigns (ends) WHERE ends IS NOT NULL;

CREATE TABLE catalog_creatives (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_creatives_network ON catalog_creatives (network, id);
CREATE INDEX catalog_creatives_label ON catalog_creatives (network, label, id);
CREATE INDEX catalog_creatives_created ON catalog_creatives (network, created, id);
CREATE INDEX catalog_creatives_updated ON catalog_creatives (network, updated, id);
CREATE INDEX catalog_creatives_offer ON catalog_creatives (offer, id);

CREATE TABLE catalog_links (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_links_network ON catalog_links (network, id);
CREATE INDEX catalog_links_label ON catalog_links (network, label, id);
CREATE INDEX catalog_links_created ON catalog_links (network, created, id);
CREATE INDEX catalog_links_updated ON catalog_links (network, updated, id);
CREATE INDEX catalog_links_campaign ON catalog_links (campaign, id);
CREATE INDEX catalog_links_offer ON catalog_links (offer, id);
CREATE INDEX catalog_links_affiliate ON catalog_links (affiliate, id);
CREATE INDEX catalog_links_advertiser ON catalog_links (advertiser, id);
CREATE INDEX catalog_links_creative ON catalog_links (creative, id);
CREATE INDEX catalog_links_starts ON catalog_links (starts) WHERE starts IS NOT NULL;
CREATE INDEX catalog_links_ends ON catalog_links (ends) WHERE ends IS NOT NULL;

CREATE TABLE catalog_terms (
  id BIGINT NOT NULL PRIMARY KEY,
  network BIGINT NOT NULL,
  advertiser BIGINT NOT NULL,
  offer BIGINT NOT NULL,
  affiliate BIGINT NOT NULL,
  campaign BIGINT NOT NULL,
  creative BIGINT NOT NULL,
  label TEXT NOT NULL,
  status TEXT NOT NULL,
  status_reason TEXT NOT NULL,
  revision BIGINT NOT NULL,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  archived BIGINT,
  starts BIGINT,
  ends BIGINT,
  document TEXT NOT NULL
);
CREATE INDEX catalog_terms_network ON catalog_terms (network, id);
CREATE INDEX catalog_terms_label ON catalog_terms (network, label, id);
CREATE INDEX catalog_terms_created ON catalog_terms (network, created, id);
CREATE INDEX catalog_terms_updated ON catalog_terms (network, updated, id);
-- Most terms are of offers; without the condition, one value of the index would have nearly all rows.
CREATE INDEX catalog_terms_campaign ON catalog_terms (campaign, id) WHERE campaign <> 0;
CREATE INDEX catalog_terms_offer ON catalog_terms (offer, campaign, id);
CREATE INDEX catalog_terms_starts ON catalog_terms (starts) WHERE starts IS NOT NULL;
CREATE INDEX catalog_terms_ends ON catalog_terms (ends) WHERE ends IS NOT NULL;
