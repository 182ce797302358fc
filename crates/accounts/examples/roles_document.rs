//! Prints docs/roles.md: `cargo run -p accounts --example roles_document > docs/roles.md`.

fn main() {
    print!("{}", accounts::roles::document());
}
