pub struct Frame<'a> {
    pub seq: u64,
    pub payload: &'a [u8],
}
pub fn frames(b: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, String>> {
    std::iter::once(Ok(Frame { seq: 1, payload: b }))
}
pub async fn migrate(_: &clickhouse::Client, _: &str) -> Result<(), String> {
    Ok(())
}
