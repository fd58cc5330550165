//! What a peer offers: the lines of its EHLO reply (RFC 5321 4.1.1.1). Unknown ones are skipped.

/// Most AUTH mechanisms that are remembered.
const MECHANISMS: usize = 32;
/// Longest name of a mechanism (RFC 4422 3.1).
const MECHANISM_OCTETS: usize = 20;

/// What the peer offered in its last reply to EHLO or LHLO; nothing behind HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// EHLO or LHLO was answered.
    pub extended: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): the most octets of a message, 0 when it does not say.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030).
    pub binarymime: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// DELIVERBY (RFC 2852): the least seconds, 0 when it does not say.
    pub deliver_by: Option<u64>,
    /// FUTURERELEASE (RFC 4865).
    pub future_release: bool,
    /// MT-PRIORITY (RFC 6710).
    pub priority: bool,
    /// LIMITS (RFC 9422).
    pub limits: PeerLimits,
    /// AUTH (RFC 4954): the mechanisms' names in capitals, in the peer's order.
    pub auth: Vec<String>,
}

/// LIMITS (RFC 9422). `None`: not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerLimits {
    /// Transactions of a connection.
    pub mail_max: Option<u64>,
    /// Recipients of a transaction.
    pub rcpt_max: Option<u64>,
    /// Different domains of a transaction's recipients.
    pub rcpt_domain_max: Option<u64>,
}

impl Capabilities {
    /// Whether the peer offers this AUTH mechanism; its name in capitals.
    pub fn offers_auth(&self, mechanism: &str) -> bool {
        self.auth.iter().any(|offered| offered == mechanism)
    }

    /// Nothing is known.
    pub(super) fn clear(&mut self) {
        *self = Capabilities::default();
    }

    /// A line of the reply but the first, without its code.
    pub(super) fn line(&mut self, line: &[u8]) {
        let Ok(line) = str::from_utf8(line) else { return };
        // `AUTH=LOGIN PLAIN` is how servers before RFC 2554 wrote it.
        let (keyword, parameters) = match line.split_once([' ', '=']) {
            Some((keyword, _)) if keyword.eq_ignore_ascii_case("AUTH") => {
                (keyword, line.get(5..).unwrap_or_default())
            }
            _ => line.split_once(' ').unwrap_or((line, "")),
        };
        let number = || parameters.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
        match keyword.to_ascii_uppercase().as_str() {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => self.size = Some(number().unwrap_or(0)),
            "8BITMIME" => self.eight_bit = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "CHUNKING" => self.chunking = true,
            "BINARYMIME" => self.binarymime = true,
            "DSN" => self.dsn = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "STARTTLS" => self.starttls = true,
            "REQUIRETLS" => self.require_tls = true,
            "DELIVERBY" => self.deliver_by = Some(number().unwrap_or(0)),
            "FUTURERELEASE" => self.future_release = true,
            "MT-PRIORITY" => self.priority = true,
            "AUTH" => parameters.split([' ', '=']).for_each(|name| self.mechanism(name)),
            "LIMITS" => parameters.split_whitespace().for_each(|limit| self.limits.set(limit)),
            _ => {}
        }
    }

    fn mechanism(&mut self, name: &str) {
        let fits = (1..=MECHANISM_OCTETS).contains(&name.len());
        let name = name.to_ascii_uppercase();
        if fits && self.auth.len() < MECHANISMS && !self.offers_auth(&name) {
            self.auth.push(name);
        }
    }

    /// Octets of memory that they hold outside themselves.
    pub(super) fn memory_bytes(&self) -> usize {
        let names: usize = self.auth.iter().map(String::capacity).sum();
        self.auth.capacity() * size_of::<String>() + names
    }
}

impl PeerLimits {
    /// `NAME=value`. A value that is no number at least 1 says nothing (RFC 9422 4).
    fn set(&mut self, limit: &str) {
        let Some((name, value)) = limit.split_once('=') else { return };
        let value = value.parse::<u64>().ok().filter(|n| *n > 0);
        match name.to_ascii_uppercase().as_str() {
            "MAILMAX" => self.mail_max = value,
            "RCPTMAX" => self.rcpt_max = value,
            "RCPTDOMAINMAX" => self.rcpt_domain_max = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Capabilities {
        let mut capabilities = Capabilities::default();
        lines.iter().for_each(|line| capabilities.line(line.as_bytes()));
        capabilities
    }

    #[test]
    fn size_stands_with_and_without_a_number() {
        assert_eq!(of(&["SIZE"]).size, Some(0));
        assert_eq!(of(&["size 1000"]).size, Some(1000));
        assert_eq!(of(&["SIZE 99999999999999999999999"]).size, Some(0));
        assert_eq!(of(&["SIZES 5", "XSIZE"]).size, None);
    }

    #[test]
    fn auth_is_read_in_both_spellings_and_names_are_kept_once() {
        let both = of(&["AUTH PLAIN login", "AUTH=LOGIN CRAM-MD5"]);
        assert_eq!(both.auth, ["PLAIN", "LOGIN", "CRAM-MD5"]);
        assert_eq!(of(&["AUTH"]).auth, [""; 0]);
        assert_eq!(of(&["AUTH=PLAIN"]).auth, ["PLAIN"]);
    }

    #[test]
    fn limits_without_a_sound_number_say_nothing() {
        let limits = of(&["LIMITS RCPTMAX=20 mailmax=5 RCPTDOMAINMAX=0 OTHER=1 X"]).limits;
        assert_eq!(
            limits,
            PeerLimits { mail_max: Some(5), rcpt_max: Some(20), rcpt_domain_max: None }
        );
    }

    #[test]
    fn unknown_lines_and_stray_octets_are_skipped() {
        let mut capabilities = of(&["XEXTENSION a b c", "", " PIPELINING", "PIPELINING=1"]);
        capabilities.line(b"SIZE\xff 5");
        assert_eq!(capabilities, Capabilities::default());
    }

    #[test]
    fn mechanisms_are_bounded_in_length_and_number() {
        let names: Vec<String> = (0..1000).map(|n| format!("M{n}")).collect();
        let long = format!("AUTH {} {}", "X".repeat(MECHANISM_OCTETS), "Y".repeat(21));
        assert_eq!(of(&[&long]).auth, ["X".repeat(MECHANISM_OCTETS)]);
        assert_eq!(of(&[&format!("AUTH {}", names.join(" "))]).auth.len(), MECHANISMS);
    }
}
