//! The migrations of the store. The statements of one that was released are never changed; a test keeps them.

use sql_store::Migration;

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "store",
        sql: include_str!("../../migrations/0001_store.sql"),
        released_checksum: Some(
            "4192278c2c1fe6bc0c37947525254d80c2d6143cdc26dc14a9653494d840c28d4470f06eef1246a5b05e25cebdf71f07",
        ),
    },
    Migration {
        version: 2,
        name: "outgoing",
        sql: include_str!("../../migrations/0002_outgoing.sql"),
        released_checksum: Some(
            "0163230bb302523429f487782fbd832fbcecc7dea81aa628b0fac5be837e15658c1cbfb87b94d01cd86ecdc02f6e886d",
        ),
    },
    Migration {
        version: 3,
        name: "history",
        sql: include_str!("../../migrations/0003_history.sql"),
        released_checksum: Some(
            "afa8eeecfe6a3affd4db23cbf0b1b89b4c3226a91fba4d9e8d540b593234e627ca9261c8b72fdb78a63544790de8cb0f",
        ),
    },
    Migration {
        version: 4,
        name: "epoch",
        sql: include_str!("../../migrations/0004_epoch.sql"),
        released_checksum: Some(
            "dd7db39dd3d1281f9e3c53dedb967267afa976e800f3a570c3d1225f9f89d8e67bed78b2fc3f182a079a3d6db4b0e38c",
        ),
    },
    Migration {
        version: 5,
        name: "proofs",
        sql: include_str!("../../migrations/0005_proofs.sql"),
        released_checksum: Some(
            "a03d22efead105cfbd5e61d7c14cdc1ef89f0b771daba1938392bb842c1d51bc00c9fbb625d64be28daeb4f355612fe2",
        ),
    },
    Migration {
        version: 6,
        name: "steady_clock",
        sql: include_str!("../../migrations/0006_steady_clock.sql"),
        released_checksum: Some(
            "79c9a03a4299218a54d1f383a097732cc7fea352da2d4bda68a061aa432ffa26899577ab417463bac8883d3e2d8627ed",
        ),
    },
    Migration {
        version: 7,
        name: "sales_of_clicks",
        sql: include_str!("../../migrations/0007_sales_of_clicks.sql"),
        released_checksum: Some(
            "fa98af44f7a25eff67af3d943fa0f2c694263ec46a593f2ef3f1f1d8a4ad1722f9e78b6bfc17f0eb41d237d002de86b2",
        ),
    },
    Migration {
        version: 8,
        name: "refunds",
        sql: include_str!("../../migrations/0008_refunds.sql"),
        released_checksum: Some(
            "50983d5bf07114dbb0f89db60914bed08406373c0a4867a8eb2438e0d24b885f09f7962992ccc8a91ec30b82e36b7db4",
        ),
    },
    Migration {
        version: 9,
        name: "ends_of_postbacks",
        sql: include_str!("../../migrations/0009_ends_of_postbacks.sql"),
        released_checksum: Some(
            "4e9362496aa1b827d6d61f3f7e66e45e30efac7097544fdd034aa11974143ecb73498223dde293e115356aaeaecdf58d",
        ),
    },
];

#[cfg(test)]
mod tests {
    use super::MIGRATIONS;
    use sha2::{Digest as _, Sha256};

    /// The first eight bytes of each migration's SHA-256, without comments and line breaks.
    const STATEMENTS: [&str; 9] = [
        "0769ac0458124960",
        "21df085a44cf6a15",
        "266bbe7965b3aadb",
        "d627d344ab03f8a1",
        "949a4915753059cf",
        "e36a0fb7ba9aa5c7",
        "91e6a7ad6d51a05a",
        "526b88d9c3cfe677",
        "5c463b9d324a20dd",
    ];

    #[test]
    fn released_migrations_keep_their_statements() {
        let statements = MIGRATIONS.iter().map(|migration| {
            let code = migration.sql.lines().map(|line| line.split("--").next());
            let code = code.flatten().flat_map(str::split_whitespace);
            let digest = Sha256::digest(code.collect::<Vec<_>>().join(" "));
            digest[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        });
        assert_eq!(statements.collect::<Vec<_>>(), STATEMENTS);
    }
}
