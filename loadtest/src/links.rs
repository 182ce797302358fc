//! The demo's sample links, and the slugs of a links file. Resolving links is the edge's task.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// Offer, campaign, affiliate and slug of each sample link.
pub(crate) const SAMPLES: [(&str, &str, &str, &str); 12] = [
    ("boyfanz", "boyfanz-launch", "ann", "boyfanz-home"),
    ("boyfanz", "boyfanz-launch", "ben", "boyfanz-join"),
    ("boyfanz", "boyfanz-launch", "cleo", "boyfanz-trial"),
    ("girlfanz", "girlfanz-summer", "ann", "girlfanz-home"),
    ("girlfanz", "girlfanz-summer", "dora", "girlfanz-join"),
    ("girlfanz", "girlfanz-summer", "eli", "girlfanz-trial"),
    ("elitetube", "elitetube-premium", "ben", "elitetube-home"),
    ("elitetube", "elitetube-premium", "dora", "elitetube-join"),
    ("elitetube", "elitetube-premium", "finn", "elitetube-offer"),
    ("fanzmeet", "fanzmeet-cities", "cleo", "fanzmeet-home"),
    ("fanzmeet", "fanzmeet-cities", "eli", "fanzmeet-join"),
    ("fanzmeet", "fanzmeet-cities", "finn", "fanzmeet-near"),
];

/// The sample links as a links file.
#[must_use]
pub fn sample_file() -> String {
    let mut text = String::new();
    for (id, (offer, campaign, affiliate, slug)) in (1..).zip(SAMPLES) {
        write_link(&mut text, id, slug, [offer, campaign, affiliate]);
    }
    text
}

/// The affiliates of the sample links, each once.
#[must_use]
pub fn sample_affiliates() -> Vec<String> {
    let mut names: Vec<_> = SAMPLES
        .iter()
        .map(|(_, _, name, _)| String::from(*name))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn write_link(text: &mut String, id: usize, slug: &str, names: [&str; 3]) {
    let [offer, campaign, affiliate] = names;
    let destination = format!("https://{offer}.example/welcome?cid={{click_id}}&s={{sub1}}");
    write!(
        text,
        "[[link]]\nid = {id}\nslug = \"{slug}\"\noffer = \"{offer}\"\ncampaign = \"{campaign}\"\n\
         affiliate = \"{affiliate}\"\ndestination = \"{destination}\"\n\n"
    )
    .expect("writing to a string cannot fail");
}

/// Writes a links file with `count` links, the samples first, and returns the slug and offer of each.
///
/// # Errors
/// If the file can't be written.
pub fn write_many(count: usize, file: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut text = String::new();
    let mut links = Vec::with_capacity(count);
    for number in 0..count {
        let (offer, campaign, affiliate, sample) = SAMPLES[number % SAMPLES.len()];
        let slug = match number / SAMPLES.len() {
            0 => sample.to_owned(),
            copy => format!("{sample}-{copy}"),
        };
        write_link(&mut text, number + 1, &slug, [offer, campaign, affiliate]);
        links.push((slug, offer.to_owned()));
    }
    std::fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))?;
    Ok(links)
}

/// The slugs of the sample links.
#[must_use]
pub fn sample_slugs() -> Vec<String> {
    SAMPLES.iter().map(|sample| sample.3.to_owned()).collect()
}

#[derive(serde::Deserialize)]
struct LinksFile {
    #[serde(default)]
    link: Vec<Link>,
}

#[derive(serde::Deserialize)]
struct Link {
    slug: String,
}

/// The slugs in a links file, in the file's order.
///
/// # Errors
/// If the file can't be read, is no links file, or has a slug that is not valid in a URL.
pub fn slugs_of(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("failed to read the links file {}", file.display()))?;
    let links: LinksFile = toml::from_str(&text).with_context(|| file.display().to_string())?;
    let slugs: Vec<String> = links.link.into_iter().map(|link| link.slug).collect();
    for slug in &slugs {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        ensure!(
            slug.bytes().all(good),
            "{}: invalid slug {slug:?}; expected letters, digits, '-', '_' and '.'",
            file.display()
        );
    }
    Ok(slugs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_links_are_a_valid_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("links.toml");
        std::fs::write(&file, sample_file()).expect("written");
        assert_eq!(slugs_of(&file).expect("readable"), sample_slugs());
    }
}
