//! The advertisers of a run: one for each dialect and each way of authentication, as in the edge's file and as the
//! sender knows it.

use std::fmt::Write as _;

/// The keys of the KYC provider; either may sign.
pub(super) const KYC_KEYS: [&str; 2] = [
    "hostile-older-key-of-the-service",
    "hostile-newer-key-of-the-service",
];
/// The network of advertisers that are authenticated by their address.
pub(super) const NETWORK: &str = "203.0.113.";

/// How a sender authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// `/postback/NAME/SECRET`.
    Path(&'static str),
    /// `/KEY/postback`.
    PathKey(&'static str),
    /// A query or form parameter with this name and value.
    Parameter(&'static str, &'static str),
    /// The query signed with this key, in the parameter `sig`.
    Query(&'static str),
    /// The body signed with this key, in the header `x-signature`.
    Body(&'static str),
    /// It sends from [`NETWORK`].
    Network,
    /// A secret in the path and a signed query, both.
    Both(&'static str, &'static str),
}

/// An advertiser with the parameter names of its dialect.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) name: &'static str,
    dialect: &'static str,
    pub(super) proof: Proof,
    /// Currency of postbacks that name none.
    pub(super) currency: Option<&'static str>,
    pub(super) click: &'static str,
    pub(super) transaction: &'static str,
    pub(super) payout: &'static str,
    pub(super) code: &'static str,
    pub(super) status: &'static str,
    pub(super) event: &'static str,
    /// Text of the response.
    pub(super) response: &'static str,
    /// A path on which a parameter names the advertiser, and that parameter.
    pub(super) named_at: Option<(&'static str, &'static str)>,
    /// Maximum age of a click in days.
    pub(super) days: u64,
    /// Additional settings.
    settings: &'static str,
}

impl Sender {
    /// Whether it uses the generic dialect's own parameter names.
    pub(super) fn is_generic(&self) -> bool {
        self.dialect == GENERIC.dialect && self.settings.is_empty()
    }
}

const GENERIC: Sender = Sender {
    name: "",
    dialect: "generic",
    proof: Proof::Network,
    currency: Some("USD"),
    click: "click_id",
    transaction: "transaction_id",
    payout: "payout",
    code: "currency",
    status: "status",
    event: "event",
    response: "OK",
    named_at: None,
    days: 90,
    settings: "",
};

pub(super) const SENDERS: &[Sender] = &[
    Sender {
        name: "plain",
        proof: Proof::Parameter("token", "plain-hostile-secret-1"),
        ..GENERIC
    },
    Sender {
        name: "vol",
        dialect: "voluum",
        proof: Proof::Path("voluum-hostile-secret-2"),
        click: "cid",
        transaction: "txid",
        event: "et",
        ..GENERIC
    },
    Sender {
        name: "kei",
        dialect: "keitaro",
        proof: Proof::PathKey("keitaro-hostile-secret-3"),
        click: "subid",
        transaction: "tid",
        settings: "path_keys = [\"keitaro-hostile-secret-3\"]\n",
        ..GENERIC
    },
    Sender {
        name: "eve",
        dialect: "everflow",
        proof: Proof::Parameter("verification_token", "everflow-hostile-secret-4"),
        click: "transaction_id",
        transaction: "order_id",
        payout: "amount",
        event: "event_id",
        named_at: Some(("/", "nid=321")),
        settings: "path_keys = [\"321\"]\ndecimal_comma = false\n",
        ..GENERIC
    },
    Sender {
        name: "tun",
        dialect: "tune",
        click: "transaction_id",
        transaction: "adv_sub",
        payout: "amount",
        event: "goal_id",
        response: "success=true;",
        named_at: Some(("/aff_lsr", "adv=tun")),
        ..GENERIC
    },
    Sender {
        name: "aff",
        dialect: "affise",
        proof: Proof::Parameter("secure", "affise-hostile-secret-5"),
        currency: Some("EUR"),
        click: "clickid",
        transaction: "action_id",
        payout: "sum",
        event: "goal",
        ..GENERIC
    },
    Sender {
        name: "bin",
        dialect: "binom",
        proof: Proof::Path("binom-hostile-secret-6"),
        click: "cnv_id",
        transaction: "txid",
        code: "cnv_currency",
        status: "cnv_status",
        ..GENERIC
    },
    Sender {
        name: "red",
        dialect: "redtrack",
        proof: Proof::Path("redtrack-hostile-secret-7"),
        currency: None,
        click: "clickid",
        payout: "sum",
        event: "type",
        ..GENERIC
    },
    Sender {
        name: "cak",
        dialect: "cake",
        proof: Proof::Parameter("key", "cake-hostile-secret-8"),
        click: "r",
        transaction: "t",
        payout: "p",
        code: "eccu",
        event: "e",
        response: "1",
        named_at: Some(("/p.ashx", "advertiser=cak")),
        settings: "answer = \"1\"\n",
        ..GENERIC
    },
    Sender {
        name: "sigq",
        proof: Proof::Query("hostile key that signs queries"),
        ..GENERIC
    },
    Sender {
        name: "sigb",
        proof: Proof::Body("hostile key that signs bodies"),
        ..GENERIC
    },
    Sender {
        name: "both",
        dialect: "voluum",
        proof: Proof::Both("both-hostile-secret-9", "hostile key of who shows both"),
        click: "cid",
        transaction: "txid",
        event: "et",
        ..GENERIC
    },
    Sender {
        name: "own",
        proof: Proof::Path("own-hostile-secret-10"),
        click: "ref",
        payout: "commission",
        days: 7,
        settings: "max_click_age_days = 7\nparameters = { click_id = \"ref\", payout = \"commission\" }\n",
        ..GENERIC
    },
];

/// An entry that names neither links nor offers, so that no click converts.
pub(super) const WITHOUT_LINKS: &str = "nobodys";
/// The secret of [`WITHOUT_LINKS`].
pub(super) const WITHOUT_LINKS_SECRET: &str = "nobodys-secret-of-bytes";

/// `advertisers.toml`.
pub(super) fn advertisers() -> String {
    let mut text = String::from("# Advertisers of the test.\n");
    for sender in SENDERS {
        let auth = match sender.proof {
            Proof::Path(secret) | Proof::PathKey(secret) => {
                format!("{{ secret_path = \"{secret}\" }}")
            }
            Proof::Parameter(name, value) => {
                format!("{{ secret_parameter = {{ name = \"{name}\", value = \"{value}\" }} }}")
            }
            Proof::Query(key) => signed_query(key),
            Proof::Body(key) => format!(
                "{{ hmac = {{ key = \"{key}\", over = \"body\", header = \"x-signature\" }} }}"
            ),
            Proof::Network => format!("{{ addresses = [\"{NETWORK}0/24\"] }}"),
            Proof::Both(secret, key) => {
                format!("{{ secret_path = \"{secret}\" }}, {}", signed_query(key))
            }
        };
        let (name, dialect) = (sender.name, sender.dialect);
        let _ = writeln!(
            text,
            "[{name}]\ndialect = \"{dialect}\"\nlinks = \"any\"\nauth = [{auth}]\n{}",
            sender.settings
        );
        if matches!(sender.proof, Proof::Both(..)) {
            text.push_str("auth_mode = \"all\"\n");
        }
        if let Some(currency) = sender.currency {
            let _ = writeln!(text, "currency = \"{currency}\"");
        }
    }
    let auth = format!("{{ secret_path = \"{WITHOUT_LINKS_SECRET}\" }}");
    let _ = writeln!(
        text,
        "[{WITHOUT_LINKS}]\ndialect = \"generic\"\ncurrency = \"USD\"\nauth = [{auth}]"
    );
    text
}

fn signed_query(key: &str) -> String {
    format!("{{ hmac = {{ key = \"{key}\", over = \"query\", parameter = \"sig\" }} }}")
}

/// Variables of the functions.
pub(super) fn variables() -> String {
    format!("kyc_keys = \"{}\"\n", KYC_KEYS.join(","))
}

/// Values that must never appear in a response or a table.
pub(super) fn secrets() -> impl Iterator<Item = &'static str> {
    let each = SENDERS.iter().flat_map(|sender| match sender.proof {
        Proof::Path(secret) | Proof::PathKey(secret) | Proof::Parameter(_, secret) => {
            [Some(secret), None]
        }
        Proof::Query(key) | Proof::Body(key) => [Some(key), None],
        Proof::Both(secret, key) => [Some(secret), Some(key)],
        Proof::Network => [None, None],
    });
    each.flatten().chain(KYC_KEYS)
}
