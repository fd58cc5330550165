//! Every number of the configuration: its table and key, its bounds, its sentence, and its place in
//! [`Config`]. Reading, writing the template and setting by dotted key all go by this one list.

use super::Config;

/// A key whose value is a whole number.
pub struct Number {
    /// The table.
    pub table: &'static str,
    /// The key in it.
    pub key: &'static str,
    /// The least value.
    pub least: u64,
    /// The greatest value.
    pub most: u64,
    /// What the template says of it; one comment line each.
    pub about: &'static [&'static str],
    /// Reads it from a configuration, in the file's unit.
    pub get: fn(&Config) -> u64,
    /// Puts it into a configuration, from the file's unit.
    pub set: fn(&mut Config, u64),
}

/// Longest time that can be configured: a week, in seconds.
const WEEK: u64 = 7 * 24 * 3600;

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn bits(value: u64) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn millis(seconds: u64) -> u64 {
    seconds.saturating_mul(1000)
}

macro_rules! number {
    ($table:literal, $key:literal, $least:expr, $most:expr, [$($about:literal),+ $(,)?], $get:expr, $set:expr) => {
        Number {
            table: $table, key: $key, least: $least, most: $most,
            about: &[$($about),+], get: $get, set: $set,
        }
    };
}

/// The list, in the order of the template.
pub const NUMBERS: &[Number] = &[
    number!(
        "policy",
        "connections",
        1,
        1_000_000,
        ["Most connections at once, all listeners together. Beyond it new ones are turned away."],
        |c| u64::from(c.rules.connections),
        |c, v| c.rules.connections = narrow(v)
    ),
    number!(
        "policy",
        "connections_per_address",
        1,
        1_000_000,
        ["Most connections at once from one address, loopback included."],
        |c| u64::from(c.rules.connections_per_address),
        |c, v| c.rules.connections_per_address = narrow(v)
    ),
    number!(
        "delivery",
        "first_retry_seconds",
        1,
        WEEK,
        ["Seconds from the first attempt to the second; each next wait is twice as long,"],
        |c| c.schedule.first_millis / 1000,
        |c, v| c.schedule.first_millis = millis(v)
    ),
    number!(
        "delivery",
        "longest_retry_seconds",
        1,
        WEEK,
        ["but not longer than so many seconds."],
        |c| c.schedule.longest_millis / 1000,
        |c, v| c.schedule.longest_millis = millis(v)
    ),
    number!(
        "delivery",
        "expire_seconds",
        1,
        8 * WEEK,
        ["Seconds after which a recipient that could not be reached has failed."],
        |c| c.schedule.expire_millis / 1000,
        |c, v| c.schedule.expire_millis = millis(v)
    ),
    number!(
        "policy",
        "connections_per_network",
        1,
        1_000_000,
        [
            "Most connections at once from one network (IPv4 /24, IPv6 /48). Exempt networks are not counted."
        ],
        |c| u64::from(c.rules.connections_per_network),
        |c, v| c.rules.connections_per_network = narrow(v)
    ),
    number!(
        "policy",
        "connections_per_minute",
        0,
        1_000_000,
        [
            "New connections in a minute from one host. 0: any number. A host is an IPv4 address or an",
            "IPv6 /64; so for the following.",
        ],
        |c| u64::from(c.rules.defence.connections_per_minute),
        |c, v| c.rules.defence.connections_per_minute = narrow(v)
    ),
    number!(
        "policy",
        "commands_per_minute",
        0,
        10_000_000,
        ["Commands in a minute from one host. Beyond it: 421. 0: any number.",],
        |c| u64::from(c.rules.defence.commands_per_minute),
        |c, v| c.rules.defence.commands_per_minute = narrow(v)
    ),
    number!(
        "policy",
        "recipients_per_hour",
        0,
        10_000_000,
        ["Recipients in an hour from one host, taken or not. Beyond it: 450. 0: any number.",],
        |c| u64::from(c.rules.defence.recipients_per_hour),
        |c, v| c.rules.defence.recipients_per_hour = narrow(v)
    ),
    number!(
        "policy",
        "messages_per_hour",
        0,
        10_000_000,
        ["Messages in an hour from one host. Beyond it: 450. 0: any number.",],
        |c| u64::from(c.rules.defence.messages_per_hour),
        |c, v| c.rules.defence.messages_per_hour = narrow(v)
    ),
    number!(
        "policy",
        "greeting_delay_millis",
        0,
        60_000,
        [
            "Milliseconds that an SMTP client is watched before it is greeted; a client that speaks in that",
            "time is an early talker. 0: it is greeted at once.",
        ],
        |c| c.rules.greeting_delay,
        |c, v| c.rules.greeting_delay = v
    ),
    number!(
        "policy",
        "tarpit_after",
        0,
        1_000_000,
        ["Refused commands in a connection before each further one is followed by a pause.",],
        |c| u64::from(c.rules.defence.tarpit_after),
        |c, v| c.rules.defence.tarpit_after = narrow(v)
    ),
    number!(
        "policy",
        "tarpit_millis",
        0,
        600_000,
        ["Milliseconds of the first pause; each further one is twice as long. 0: no pauses.",],
        |c| c.rules.defence.tarpit_millis,
        |c, v| c.rules.defence.tarpit_millis = v
    ),
    number!(
        "policy",
        "tarpit_most_millis",
        0,
        600_000,
        ["Milliseconds of the longest pause.",],
        |c| c.rules.defence.tarpit_most_millis,
        |c, v| c.rules.defence.tarpit_most_millis = v
    ),
    number!(
        "policy",
        "data_bytes_per_minute",
        0,
        1 << 30,
        [
            "Bytes of a message that a client must send in a minute, on average, after its first minute.",
            "Beyond it: 421. 0: any.",
        ],
        |c| c.rules.defence.data_per_minute,
        |c, v| c.rules.defence.data_per_minute = v
    ),
    number!(
        "policy",
        "lockout_failures",
        0,
        1_000_000,
        [
            "Failed logins of a host within the window before it is locked out. The same guess again does",
            "not count. 0: never.",
        ],
        |c| u64::from(c.rules.defence.lockout.host_failures),
        |c, v| c.rules.defence.lockout.host_failures = narrow(v)
    ),
    number!(
        "policy",
        "lockout_login_failures",
        0,
        1_000_000,
        [
            "Failed logins with one login name within the window before the name is locked, except for",
            "hosts from which it has logged in before. 0: never.",
        ],
        |c| u64::from(c.rules.defence.lockout.name_failures),
        |c, v| c.rules.defence.lockout.name_failures = narrow(v)
    ),
    number!(
        "policy",
        "lockout_window_seconds",
        1,
        WEEK,
        ["Seconds of the window.",],
        |c| c.rules.defence.lockout.window_millis / 1000,
        |c, v| c.rules.defence.lockout.window_millis = millis(v)
    ),
    number!(
        "policy",
        "lockout_seconds",
        0,
        52 * WEEK,
        ["Seconds of a lock-out. 0: until it is ended by hand, or the server ends.",],
        |c| c.rules.defence.lockout.lock_millis / 1000,
        |c, v| c.rules.defence.lockout.lock_millis = millis(v)
    ),
    number!(
        "policy",
        "ipv4_network_bits",
        1,
        32,
        ["Leading bits of an IPv4 address that make a network.",],
        |c| u64::from(c.rules.defence.ipv4_network_bits),
        |c, v| c.rules.defence.ipv4_network_bits = bits(v)
    ),
    number!(
        "policy",
        "ipv6_host_bits",
        1,
        128,
        ["Leading bits of an IPv6 address that make a host.",],
        |c| u64::from(c.rules.defence.ipv6_host_bits),
        |c, v| c.rules.defence.ipv6_host_bits = bits(v)
    ),
    number!(
        "policy",
        "ipv6_network_bits",
        1,
        128,
        ["Leading bits of an IPv6 address that make a network.",],
        |c| u64::from(c.rules.defence.ipv6_network_bits),
        |c, v| c.rules.defence.ipv6_network_bits = bits(v)
    ),
    number!(
        "smtp",
        "message_bytes",
        1024,
        1 << 40,
        ["Most bytes of a message; announced in the EHLO reply (SIZE). Beyond it: 552."],
        |c| c.smtp.message_bytes,
        |c, v| c.smtp.message_bytes = v
    ),
    number!(
        "smtp",
        "header_bytes",
        64 << 10,
        1 << 30,
        ["Most bytes of a message's header. Beyond it: 552."],
        |c| c.rules.header_bytes,
        |c, v| c.rules.header_bytes = v
    ),
    number!(
        "smtp",
        "recipients",
        100,
        100_000,
        ["Most recipients of a message. Beyond it: 452, and the sender comes again with the rest."],
        |c| u64::from(c.smtp.recipients),
        |c, v| c.smtp.recipients = narrow(v)
    ),
    number!(
        "smtp",
        "errors",
        1,
        1_000_000,
        ["Refused commands in a connection before it is closed with 421."],
        |c| u64::from(c.smtp.errors),
        |c, v| c.smtp.errors = narrow(v)
    ),
    number!(
        "smtp",
        "transactions",
        1,
        u32::MAX as u64,
        ["Messages in a connection before it is closed with 421."],
        |c| u64::from(c.smtp.transactions),
        |c, v| c.smtp.transactions = narrow(v)
    ),
    number!(
        "smtp",
        "command_seconds",
        1,
        WEEK,
        ["Seconds that a client may take for its next command."],
        |c| c.smtp.command_millis / 1000,
        |c, v| c.smtp.command_millis = millis(v)
    ),
    number!(
        "smtp",
        "data_seconds",
        1,
        WEEK,
        ["Seconds that a client may take for its next block of a message."],
        |c| c.smtp.data_millis / 1000,
        |c, v| c.smtp.data_millis = millis(v)
    ),
    number!(
        "smtp",
        "command_line_bytes",
        1024,
        1 << 20,
        ["Longest command line in bytes, its line end included."],
        |c| c.smtp.command_line as u64,
        |c, v| c.smtp.command_line = size(v)
    ),
    number!(
        "smtp",
        "auth_line_bytes",
        1024,
        1 << 20,
        ["Longest line of a login in bytes, its line end included."],
        |c| c.smtp.auth_line as u64,
        |c, v| c.smtp.auth_line = size(v)
    ),
    number!(
        "smtp",
        "output_bytes",
        1024,
        1 << 24,
        ["Replies in bytes that wait for a slow client before no more commands are taken."],
        |c| c.smtp.output_bytes as u64,
        |c, v| c.smtp.output_bytes = size(v)
    ),
    number!(
        "pop3",
        "errors",
        1,
        1_000_000,
        ["Failed commands in a connection before it is closed."],
        |c| u64::from(c.pop3.errors),
        |c, v| c.pop3.errors = narrow(v)
    ),
    number!(
        "pop3",
        "idle_seconds",
        600,
        WEEK,
        [
            "Seconds without a command before a session ends without deleting",
            "(at least 600: RFC 1939).",
        ],
        |c| c.pop3.idle_millis / 1000,
        |c, v| c.pop3.idle_millis = millis(v)
    ),
    number!(
        "pop3",
        "login_seconds",
        1,
        WEEK,
        ["The same before the client has logged in."],
        |c| c.pop3.login_millis / 1000,
        |c, v| c.pop3.login_millis = millis(v)
    ),
    number!(
        "pop3",
        "command_line_bytes",
        255,
        1 << 20,
        ["Longest command line in bytes, its line end included."],
        |c| c.pop3.command_line as u64,
        |c, v| c.pop3.command_line = size(v)
    ),
    number!(
        "pop3",
        "auth_line_bytes",
        1024,
        1 << 20,
        ["Longest line of a login in bytes, its line end included."],
        |c| c.pop3.auth_line as u64,
        |c, v| c.pop3.auth_line = size(v)
    ),
    number!(
        "pop3",
        "output_bytes",
        1024,
        1 << 24,
        ["Output in bytes that waits for a slow client before no more is produced."],
        |c| c.pop3.output_bytes as u64,
        |c, v| c.pop3.output_bytes = size(v)
    ),
    number!(
        "store",
        "low_space_percent",
        0,
        50,
        [
            "Mail is refused with 452 when less than so many hundredths of the file system are free, or less",
            "than low_space_bytes, whichever is less: a share alone would be hundreds of gigabytes on a large",
            "disk, and a number of bytes alone all of a small one. Deletions and the like go on.",
        ],
        |c| c.low_space_percent,
        |c, v| c.low_space_percent = v
    ),
    number!(
        "store",
        "low_space_bytes",
        0,
        1 << 40,
        ["See low_space_percent. 0: mail is refused only when the disk is full."],
        |c| c.low_space_bytes,
        |c, v| c.low_space_bytes = v
    ),
    number!(
        "store",
        "ballast_bytes",
        0,
        1 << 36,
        [
            "Most bytes of a file that is there to be removed when the disk is full, so that deletions still",
            "have room; at most 1/64 of the file system. 0: none.",
        ],
        |c| c.ballast_bytes,
        |c, v| c.ballast_bytes = v
    ),
    number!(
        "engine",
        "drain_seconds",
        0,
        3600,
        ["Seconds that a stop waits for running sessions to end before it cuts them."],
        |c| c.drain_millis / 1000,
        |c, v| c.drain_millis = millis(v)
    ),
];

/// Keys whose value is a text.
pub const TEXTS: &[&str] = &[
    "hostname",
    "tls.certificate",
    "tls.key",
    "tls.min_version",
    "tls.client_certificate",
    "tls.client_ca",
    "policy.plaintext_login",
    "policy.early_talkers",
    "submission.sender_rights",
];

/// Keys whose value is a list of texts.
pub const LISTS: &[&str] = &[
    "auth.mechanisms",
    "smtp.extensions",
    "policy.relay_networks",
    "policy.exempt_networks",
    "policy.proxy_trusted",
    "policy.xclient_trusted",
];

/// The table that belongs to the program around the engine.
pub const HOST: &str = "host";
