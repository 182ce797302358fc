//! Accounts on a database of the test's own, with a clock that the test sets.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod http_server;
pub(crate) mod issuer;

use accounts::*;
use domain::{AdvertiserId, AffiliateId, Micros, NetworkId};
use sql_store::test_server::TestDatabase;
use sql_store::{Access, Database, Location, Statement, Transaction};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const ACCESS: Access = Access {
    application_name: "test",
    max_connections: 8,
};
pub(crate) const PASSWORD: &str = "correct horse battery staple";
pub(crate) const OTHER_PASSWORD: &str = "an entirely other passphrase";
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// 2027-01-15T08:00:00Z.
pub(crate) const START: Micros = Micros(1_800_000_000_000_000);
const SEALING_KEY: [u8; SEALING_KEY_BYTES] = [7; SEALING_KEY_BYTES];

/// A clock that stands still until the test moves it.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START.0)))
    }

    pub(crate) fn now(&self) -> Micros {
        Micros(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0
            .store(self.now().saturating_add(by).0, Ordering::Relaxed);
    }

    pub(crate) fn clock(&self) -> Clock {
        let this = self.clone();
        Clock::new(move || this.now())
    }
}

/// Accounts with their database.
pub(crate) struct Fixture {
    pub(crate) accounts: Accounts,
    pub(crate) clock: TestClock,
    pub(crate) database: TestDatabase,
}

impl Deref for Fixture {
    type Target = Accounts;

    fn deref(&self) -> &Accounts {
        &self.accounts
    }
}

pub(crate) async fn open(
    location: &Location,
    clock: &TestClock,
    settings: AccountsSettings,
) -> Accounts {
    let keys = SealingKeys::new(&SEALING_KEY, &[]);
    let opened = Accounts::open(location, ACCESS, keys, settings, clock.clock());
    opened.await.expect("opened")
}

impl Fixture {
    pub(crate) async fn new(database: TestDatabase) -> Self {
        Self::with_settings(database, AccountsSettings::default()).await
    }

    pub(crate) async fn with_settings(database: TestDatabase, settings: AccountsSettings) -> Self {
        let clock = TestClock::new();
        let accounts = open(&database.location(), &clock, settings).await;
        Self {
            accounts,
            clock,
            database,
        }
    }

    /// Closes the accounts and opens them again, as a restart does.
    pub(crate) async fn reopen(&mut self, settings: AccountsSettings) {
        self.accounts = open(&self.database.location(), &self.clock, settings).await;
    }

    /// Another connection to the database, to look at rows.
    pub(crate) async fn tables(&self) -> Transaction {
        let location = self.database.location();
        let database = Database::open(&location, ACCESS, MIGRATIONS).await;
        database
            .expect("opened")
            .begin()
            .await
            .expect("transaction")
    }

    /// All texts of a table's column.
    pub(crate) async fn column(&self, select: &'static str) -> Vec<String> {
        let mut tx = self.tables().await;
        tx.fetch_all(Statement::new(select)).await.expect("read")
    }

    /// The first admin with its session.
    pub(crate) async fn first_admin(&self) -> (Principal, NewSession) {
        let token = self.issue_setup_token().await.expect("issued");
        let form = FirstAdmin {
            token: token.expect("no admin yet"),
            name: "Ada".to_owned(),
            email: email("admin@example.com"),
            password: Password::new(PASSWORD),
        };
        let session = self
            .create_first_admin(&form, &client())
            .await
            .expect("created");
        (self.principal(&session).await, session)
    }

    pub(crate) async fn principal(&self, session: &NewSession) -> Principal {
        let principal = self.authenticate_session(&session.token).await;
        principal.expect("a valid session")
    }

    /// A local user with a password.
    pub(crate) async fn add_user(
        &self,
        admin: &Principal,
        address: &str,
        membership: Membership,
    ) -> User {
        let new = NewUser {
            name: "Name".to_owned(),
            email: email(address),
            membership,
        };
        let invitation = self.invite_user(admin, &new).await.expect("invited");
        let set = self
            .set_password(&invitation.token, &Password::new(PASSWORD))
            .await;
        assert_eq!(set.expect("set"), invitation.user.id);
        invitation.user
    }

    /// A local user with a session.
    pub(crate) async fn signed_in(
        &self,
        admin: &Principal,
        address: &str,
        of: Membership,
    ) -> Principal {
        self.add_user(admin, address, of).await;
        let session = self.sign_in(&sign_in(address, PASSWORD)).await;
        self.principal(&session.expect("signed in")).await
    }
}

pub(crate) fn email(text: &str) -> Email {
    Email::parse(text).expect("an address")
}

pub(crate) fn client() -> Client {
    client_at("192.0.2.1")
}

pub(crate) fn client_at(address: &str) -> Client {
    Client {
        address: address.parse::<IpAddr>().expect("an address"),
        user_agent: "Browser/1.0".to_owned(),
    }
}

pub(crate) fn sign_in(email: &str, password: &str) -> SignIn {
    SignIn {
        email: email.to_owned(),
        password: Password::new(password),
        second_factor: None,
        client: client(),
        previous: None,
    }
}

/// The refusal of a result.
pub(crate) fn refusal<T: std::fmt::Debug>(result: accounts::Result<T>) -> Option<Refusal> {
    match result {
        Ok(_) => None,
        Err(error) => Some(error.refusal().unwrap_or_else(|| panic!("{error}"))),
    }
}

/// A membership of each role in network 1, affiliate 11 and advertiser 21.
pub(crate) const MEMBERSHIPS: [Membership; 5] = [
    Membership::Admin,
    Membership::Manager {
        network: NetworkId(1),
    },
    Membership::Analyst {
        network: NetworkId(1),
    },
    Membership::Affiliate {
        network: NetworkId(1),
        affiliate: Some(AffiliateId(11)),
    },
    Membership::Advertiser {
        network: NetworkId(1),
        advertiser: AdvertiserId(21),
    },
];
pub(crate) const MANAGER: Membership = MEMBERSHIPS[1];
pub(crate) const ANALYST: Membership = MEMBERSHIPS[2];
pub(crate) const AFFILIATE: Membership = MEMBERSHIPS[3];
