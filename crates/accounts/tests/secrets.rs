//! No secret of a whole life of accounts is in the database's files, in an error or in a `Debug` text.
#![allow(missing_docs)]

mod common;

use accounts::*;
use common::*;
use sql_store::Location;
use sql_store::test_server::TestDatabase;
use std::path::Path;

/// The bytes of all files beside the database, such as its write-ahead log.
fn files_of(database: &TestDatabase) -> Vec<u8> {
    let Location::File(path) = database.location() else {
        panic!("not a file");
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    let files = std::fs::read_dir(directory).expect("a directory");
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        std::fs::read(file.expect("a file").path()).expect("readable")
    };
    files.flat_map(read).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn no_secret_is_stored_or_printed() {
    let fixture = Fixture::new(TestDatabase::sqlite()).await;
    let setup = fixture.issue_setup_token().await.expect("issued");
    let setup = setup.expect("no admin yet");
    let (admin, session) = fixture.first_admin().await;
    let scopes = Scopes::parse("links.read").expect("scopes");
    let new_key = NewKey {
        user: admin.user.clone(),
        label: "label of the key".to_owned(),
        scopes,
        expires: None,
    };
    let created = fixture.create_key(&admin, &new_key).await.expect("created");
    let rotated = fixture.rotate_key(&admin, &created.info.id, HOUR).await;
    let rotated = rotated.expect("rotated");
    let password = Password::new(PASSWORD);
    let begun = fixture.begin_totp(&admin, &password, &client()).await;
    let begun = begun.expect("begun");
    let code = begun.secret.code_at(fixture.clock.now());
    let recovery = fixture.confirm_totp(&admin, &code, &client()).await;
    let recovery = recovery.expect("confirmed");
    let new_user = NewUser {
        name: "N".to_owned(),
        email: email("n@example.com"),
        membership: ANALYST,
    };
    let invited = fixture
        .invite_user(&admin, &new_user)
        .await
        .expect("invited");
    let csrf = session.token.csrf_token();
    let mut wrong = sign_in("admin@example.com", OTHER_PASSWORD);
    wrong.second_factor = Some(SecondFactor::Recovery(recovery[0].clone()));
    let error = fixture.sign_in(&wrong).await.expect_err("wrong");

    let printed = format!(
        "{setup:?} {session:?} {created:?} {rotated:?} {password:?} {begun:?} {code:?} {recovery:?} {invited:?} \
         {csrf:?} {wrong:?} {error:?} {error} {:?} {admin:?} {new_user:?}",
        fixture.accounts
    );
    let stored = files_of(&fixture.database);
    let secret = begun.secret.expose();
    let mut secrets = vec![
        PASSWORD,
        OTHER_PASSWORD,
        setup.expose(),
        session.token.expose(),
        created.key.expose(),
        &created.key.expose()[12..55],
        rotated.key.expose(),
        &secret,
        invited.token.expose(),
        csrf.expose(),
        begun.uri(),
    ];
    secrets.extend(recovery.iter().map(RecoveryCode::expose));
    for secret in secrets {
        assert!(!contains(&stored, secret), "{secret} is stored");
        assert!(!printed.contains(secret), "{secret} is printed: {printed}");
    }
    for personal in [
        "admin@example.com",
        "n@example.com",
        "192.0.2.1",
        "Browser/1.0",
    ] {
        assert!(!printed.contains(personal), "{personal}: {printed}");
    }
    // The search finds what is stored.
    assert!(contains(&stored, "label of the key") && contains(&stored, created.info.id.as_str()));
}
