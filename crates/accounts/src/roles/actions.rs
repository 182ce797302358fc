//! The table of actions and roles, the only place where a role gets a right. docs/roles.md is generated from it.

use super::membership::{Extent, Role};

const NO: Extent = Extent::None;
const USER: Extent = Extent::OwnUser;
const AFF: Extent = Extent::OwnAffiliate;
const ADV: Extent = Extent::OwnAdvertiser;
const NET: Extent = Extent::OwnNetwork;
const ALL: Extent = Extent::AllNetworks;

/// Defines [`Action`] from the table.
macro_rules! actions {
    ($($variant:ident $scope:literal [$admin:ident $manager:ident $analyst:ident $affiliate:ident $advertiser:ident]
        $meaning:literal;)*) => {
        /// Something that a principal does to an object. Its scope is the form `resource.verb` in keys and responses.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Action {
            $(#[doc = $meaning] $variant,)*
        }

        impl Action {
            /// Every action, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The scope: `resource.verb`.
            #[must_use]
            pub const fn scope(self) -> &'static str {
                match self { $(Self::$variant => $scope,)* }
            }

            /// The action with this scope.
            #[must_use]
            pub fn from_scope(scope: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|action| action.scope() == scope)
            }

            /// What the action does.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// The objects on which a role may do it.
            #[must_use]
            pub const fn extent(self, role: Role) -> Extent {
                let [admin, manager, analyst, affiliate, advertiser] = match self {
                    $(Self::$variant => [$admin, $manager, $analyst, $affiliate, $advertiser],)*
                };
                match role {
                    Role::Admin => admin,
                    Role::Manager => manager,
                    Role::Analyst => analyst,
                    Role::Affiliate => affiliate,
                    Role::Advertiser => advertiser,
                }
            }
        }
    };
}

// Rules of the table, which a test holds: an admin may do everything; an analyst writes only its own keys and sessions;
// an affiliate or advertiser reads of its network only what every one of its kind may read (networks, platforms, offers,
// creatives). Which fields of an object a role sees, such as revenue terms, is decided where the object is rendered.
actions! {
    //                                        admin manager analyst affiliate advertiser
    NetworksRead        "networks.read"        [ALL NET NET NET NET] "Read the network: brand, domains, time zone, currency.";
    NetworksWrite       "networks.write"       [ALL NET NO  NO  NO ] "Change the network.";
    NetworksCreate      "networks.create"      [ALL NO  NO  NO  NO ] "Create and archive networks.";
    PlatformsRead       "platforms.read"       [ALL NET NET NET NET] "Read platforms.";
    PlatformsWrite      "platforms.write"      [ALL NET NO  NO  NO ] "Create, change and archive platforms.";
    AdvertisersRead     "advertisers.read"     [ALL NET NET NO  ADV] "Read advertisers, without their secrets.";
    AdvertisersWrite    "advertisers.write"    [ALL NET NO  NO  NO ] "Create, change and archive advertisers; replace their secrets.";
    OffersRead          "offers.read"          [ALL NET NET NET ADV] "Read offers and the terms of their payouts.";
    OffersWrite         "offers.write"         [ALL NET NO  NO  NO ] "Create, change and archive offers and versions of terms.";
    AffiliatesRead      "affiliates.read"      [ALL NET NET AFF NO ] "Read affiliates: status, KYC tier, settings of postbacks.";
    AffiliatesWrite     "affiliates.write"     [ALL NET NO  AFF NO ] "Change an affiliate's profile and settings of postbacks.";
    AffiliatesApply     "affiliates.apply"     [ALL NET NO  USER NO] "Apply as an affiliate.";
    AffiliatesApprove   "affiliates.approve"   [ALL NET NO  NO  NO ] "Approve, suspend and ban affiliates.";
    ApplicationsRead    "applications.read"    [ALL NET NET AFF NO ] "Read applications of affiliates for offers.";
    ApplicationsWrite   "applications.write"   [ALL NET NO  AFF NO ] "Apply for an offer, withdraw an application.";
    ApplicationsApprove "applications.approve" [ALL NET NO  NO  NO ] "Approve and reject applications.";
    CampaignsRead       "campaigns.read"       [ALL NET NET AFF NO ] "Read campaigns.";
    CampaignsWrite      "campaigns.write"      [ALL NET NO  NO  NO ] "Create, change and archive campaigns and their overrides.";
    LinksRead           "links.read"           [ALL NET NET AFF NO ] "Read and explain links.";
    LinksWrite          "links.write"          [ALL NET NO  AFF NO ] "Create, change, pause and archive links.";
    CreativesRead       "creatives.read"       [ALL NET NET NET ADV] "Read creatives.";
    CreativesWrite      "creatives.write"      [ALL NET NO  NO  ADV] "Create, change and archive creatives.";
    ConversionsRead     "conversions.read"     [ALL NET NET AFF ADV] "Read conversions.";
    ConversionsWrite    "conversions.write"    [ALL NET NO  NO  NO ] "Approve, reject and correct conversions.";
    ReportsRead         "reports.read"         [ALL NET NET AFF ADV] "Read statistics of clicks, impressions and conversions.";
    EventsRead          "events.read"          [ALL NET NET AFF ADV] "Follow clicks and conversions as they happen.";
    PostbacksRead       "postbacks.read"       [ALL NET NET AFF NO ] "Read the delivery log of postbacks.";
    PostbacksWrite      "postbacks.write"      [ALL NET NO  AFF NO ] "Send postbacks again, and test them.";
    WebhooksRead        "webhooks.read"        [ALL NET NO  NO  NO ] "Read subscriptions to webhooks and their delivery log.";
    WebhooksWrite       "webhooks.write"       [ALL NET NO  NO  NO ] "Create, change and replay subscriptions to webhooks.";
    CatalogImport       "catalog.import"       [ALL NET NO  NO  NO ] "Import offers, affiliates and links in bulk.";
    CatalogExport       "catalog.export"       [ALL NET NET NO  NO ] "Export offers, affiliates and links in bulk.";
    EdgesRead           "edges.read"           [ALL NO  NO  NO  NO ] "Read every edge's version and age.";
    EdgesWrite          "edges.write"          [ALL NO  NO  NO  NO ] "Name the canary, release and stop versions.";
    AuditRead           "audit.read"           [ALL NET NO  NO  NO ] "Read the audit log.";
    UsersRead           "users.read"           [ALL NET USER USER USER] "Read users.";
    UsersWrite          "users.write"          [ALL NET NO  NO  NO ] "Invite, change and disable users and their roles.";
    KeysRead            "keys.read"            [ALL NET USER USER USER] "Read API keys, without their secrets.";
    KeysWrite           "keys.write"           [ALL NET USER USER USER] "Create, rotate and revoke API keys.";
    SessionsRead        "sessions.read"        [ALL NET USER USER USER] "List sessions.";
    SessionsWrite       "sessions.write"       [ALL NET USER USER USER] "End sessions.";
}
