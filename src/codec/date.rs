pub fn rfc5322(unix_millis: u64) -> String {
    let _ = unix_millis;
    todo!()
}
