//! From the file's text to a [`Config`]: every known key taken, every other key named.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, TableLike};

use super::key::{HOST, NUMBERS};
use super::tls::{CERTIFICATES, CertificateFiles, ClientCertificate, TlsConfig};
use super::{Config, LISTENERS, ListenerConfig, ROUTES, check_listeners};
use crate::codec::address::Address;
use crate::delivery::{Route, RouteTls};
use crate::error::{Error, Kind, Result};
use crate::instance::hostname::flaw_of_host;
use crate::policy::{Network, PlaintextLogin, SenderRights, TlsVersion};
use crate::sasl::client::Credentials;
use crate::sasl::{Mechanism, Mechanisms};
use crate::smtp::extension::Extensions;

/// Most lines of warnings that are kept.
const WARNINGS: usize = 100;

/// Most networks in a list.
const NETWORKS: usize = 10_000;

pub fn read(text: &str, path: &Path, instance: &Path) -> Result<Config> {
    let file = File { text, path };
    let document = Document::parse(text).map_err(|e| file.syntax(&e))?;
    let root = document.as_table();
    let mut config = Config::defaults("");

    for (name, item) in root.iter() {
        let span = place(root, name, item);
        match name {
            "hostname" => config.hostname = hostname(&file, item)?,
            "listener" => listeners(&file, item, &mut config)?,
            "tls" => {
                let table = file.table(name, item, &span)?;
                tls(&file, table, instance, &span, &mut config)?;
            }
            "auth" => auth(&file, file.table(name, item, &span)?, &mut config)?,
            "policy" => policy(&file, file.table(name, item, &span)?, &mut config)?,
            "submission" => submission(&file, file.table(name, item, &span)?, &mut config)?,
            "route" => routes(&file, item, instance, &mut config)?,
            "smtp" => smtp(&file, file.table(name, item, &span)?, &mut config)?,
            "pop3" | "delivery" | "store" | "engine" => {
                numbers(&file, name, file.table(name, item, &span)?, &[], &mut config)?;
            }
            HOST => {}
            _ => file.warn(&span, name, &mut config),
        }
    }
    if config.hostname.is_empty() {
        return Err(file.error(&None, "hostname", "is missing"));
    }
    if config.tls.is_none() {
        // The others were checked where they stand, when their lines were known.
        check_listeners(&config.listeners, false)
            .map_err(|e| file.error(&None, "listener", e.message()))?;
    }
    Ok(config)
}

/// The text with its path: where errors point to.
struct File<'a> {
    text: &'a str,
    path: &'a Path,
}

impl File<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        before.iter().filter(|b| **b == b'\n').count().saturating_add(1)
    }

    fn error(&self, span: &Option<Range<usize>>, key: &str, what: impl fmt::Display) -> Error {
        Error::new(Kind::Config, self.complaint(span, key, what))
    }

    fn complaint(&self, span: &Option<Range<usize>>, key: &str, what: impl fmt::Display) -> String {
        let path = self.path.display();
        match span {
            Some(span) => format!("{path}:{}: {key}: {what}", self.line(span.start)),
            None => format!("{path}: {key}: {what}"),
        }
    }

    fn syntax(&self, error: &toml_edit::TomlError) -> Error {
        let line = self.line(error.span().map_or(0, |span| span.start));
        let what = error.message().replace('\n', ", ");
        Error::new(Kind::Config, format!("{}:{line}: {what}", self.path.display()))
    }

    fn warn(&self, span: &Option<Range<usize>>, key: &str, config: &mut Config) {
        if config.warnings.len() < WARNINGS {
            config.warnings.push(self.complaint(span, key, "this version does not know the key"));
        }
    }

    fn table<'t>(
        &self,
        key: &str,
        item: &'t Item,
        span: &Option<Range<usize>>,
    ) -> Result<&'t dyn TableLike> {
        item.as_table_like()
            .ok_or_else(|| self.error(span, key, format_args!("must be a table [{key}]")))
    }

    fn text<'t>(&self, key: &str, item: &'t Item) -> Result<&'t str> {
        item.as_str().ok_or_else(|| {
            let what = format!("must be a text in quotes, not {}", type_of(item));
            self.error(&item.span(), key, what)
        })
    }
}

/// Where a key stands: its own place, or its value's when the key has none.
fn place(table: &dyn TableLike, key: &str, item: &Item) -> Option<Range<usize>> {
    table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span())
}

fn type_of(item: &Item) -> &'static str {
    match item.type_name() {
        "integer" => "a whole number",
        "float" => "a number with a point",
        "boolean" => "true or false",
        "datetime" => "a date",
        "string" => "a text",
        "array" => "a list",
        _ => "a table",
    }
}

fn hostname(file: &File<'_>, item: &Item) -> Result<String> {
    let name = file.text("hostname", item)?;
    match flaw_of_host(name) {
        None => Ok(name.to_owned()),
        Some(flaw) => Err(file.error(&item.span(), "hostname", format_args!("{name:?} {flaw}"))),
    }
}

fn listeners(file: &File<'_>, item: &Item, config: &mut Config) -> Result<()> {
    const KEY: &str = "listener";
    if let Some(tables) = item.as_array_of_tables() {
        for table in tables {
            listener(file, table, table.span(), config)?;
        }
    } else if let Some(array) = item.as_array() {
        for value in array {
            let Some(table) = value.as_inline_table() else {
                return Err(file.error(&value.span(), KEY, "must be tables [[listener]]"));
            };
            listener(file, table, value.span(), config)?;
        }
    } else {
        return Err(file.error(&item.span(), KEY, "must be tables [[listener]]"));
    }
    Ok(())
}

fn listener(
    file: &File<'_>,
    table: &dyn TableLike,
    span: Option<Range<usize>>,
    config: &mut Config,
) -> Result<()> {
    if config.listeners.len() >= LISTENERS {
        return Err(file.error(&span, "listener", format_args!("more than {LISTENERS}")));
    }
    let mut name = None;
    let mut address = None;
    for (key, item) in table.iter() {
        match key {
            "name" => name = Some((file.text("listener.name", item)?, item.span())),
            "address" => address = Some((file.text("listener.address", item)?, item.span())),
            _ => file.warn(&place(table, key, item), &format!("listener.{key}"), config),
        }
    }
    let Some((name, name_span)) = name else {
        return Err(file.error(&span, "listener.name", "is missing"));
    };
    let Some((address, address_span)) = address else {
        return Err(file.error(&span, "listener.address", "is missing"));
    };
    let listener = ListenerConfig::new(name, address).map_err(|e| match e.kind() {
        Kind::InvalidArgument => file.error(&name_span, "listener.name", e.message()),
        _ => file.error(&address_span, "listener.address", e.message()),
    })?;
    config.listeners.push(listener);
    // Certificates are looked for once the whole file is known.
    check_listeners(&config.listeners, true)
        .map_err(|e| file.error(&address_span, "listener.address", e.message()))
}

fn routes(file: &File<'_>, item: &Item, instance: &Path, config: &mut Config) -> Result<()> {
    const KEY: &str = "route";
    if let Some(tables) = item.as_array_of_tables() {
        for table in tables {
            route(file, table, table.span(), instance, config)?;
        }
    } else if let Some(array) = item.as_array() {
        for value in array {
            let Some(table) = value.as_inline_table() else {
                return Err(file.error(&value.span(), KEY, "must be tables [[route]]"));
            };
            route(file, table, value.span(), instance, config)?;
        }
    } else {
        return Err(file.error(&item.span(), KEY, "must be tables [[route]]"));
    }
    Ok(())
}

fn route(
    file: &File<'_>,
    table: &dyn TableLike,
    span: Option<Range<usize>>,
    instance: &Path,
    config: &mut Config,
) -> Result<()> {
    if config.routes.len() >= ROUTES {
        return Err(file.error(&span, "route", format_args!("more than {ROUTES}")));
    }
    let (mut domain, mut to, mut tls, mut authorities) = (None, None, RouteTls::default(), None);
    let (mut login, mut password) = (None, None);
    for (key, item) in table.iter() {
        let full = format!("route.{key}");
        match key {
            "domain" => {
                let text = file.text(&full, item)?;
                let folded = match text {
                    "*" => Some(text.to_owned()),
                    _ => Address::parse(format!("x@{text}").as_bytes(), true)
                        .and_then(|address| address.domain_key()),
                };
                let what = format_args!("{text:?} is neither a domain nor \"*\"");
                domain = Some(folded.ok_or_else(|| file.error(&item.span(), &full, what))?);
            }
            "to" => {
                let text = file.text(&full, item)?;
                let what = format_args!(
                    "{text:?} is none of smtp:HOST:PORT, lmtp:HOST:PORT and lmtp:/PATH"
                );
                let target = Route::target(text);
                to = Some(target.ok_or_else(|| file.error(&item.span(), &full, what))?);
            }
            "tls" => {
                tls = match file.text(&full, item)? {
                    "none" => RouteTls::None,
                    "opportunistic" => RouteTls::Opportunistic,
                    "required" => RouteTls::Required,
                    other => {
                        let what = format!(
                            "{other:?} is not one of \"none\", \"opportunistic\", \"required\""
                        );
                        return Err(file.error(&item.span(), &full, what));
                    }
                };
            }
            "authorities" => authorities = Some(path(file, &full, item, instance)?),
            "login" => login = Some(file.text(&full, item)?.to_owned()),
            "password" => password = Some(file.text(&full, item)?.to_owned()),
            _ => file.warn(&place(table, key, item), &full, config),
        }
    }
    let missing = |key: &str| file.error(&span, key, "is missing");
    let domain = domain.ok_or_else(|| missing("route.domain"))?;
    let (protocol, host) = to.ok_or_else(|| missing("route.to"))?;
    if tls == RouteTls::Required && authorities.is_none() {
        return Err(missing("route.authorities"));
    }
    if config.routes.iter().any(|route| route.domain == domain) {
        return Err(file.error(
            &span,
            "route.domain",
            format_args!("{domain:?} has a route already"),
        ));
    }
    let credentials = match (login, password) {
        (None, None) => None,
        (Some(login), Some(password)) => {
            Some(Credentials { login, secret: password.into(), ..Credentials::default() })
        }
        (Some(_), None) => return Err(missing("route.password")),
        (None, Some(_)) => return Err(missing("route.login")),
    };
    config.routes.push(Route { domain, protocol, host, tls, authorities, credentials });
    Ok(())
}

fn tls(
    file: &File<'_>,
    table: &dyn TableLike,
    instance: &Path,
    span: &Option<Range<usize>>,
    config: &mut Config,
) -> Result<()> {
    let mut first = Files::default();
    let mut certificates = Vec::new();
    let mut min_version = TlsVersion::default();
    let mut client_certificate = (ClientCertificate::None, None);
    let mut client_ca = None;
    for (name, item) in table.iter() {
        let full = format!("tls.{name}");
        match name {
            "certificate" => first.certificate = Some(path(file, &full, item, instance)?),
            "key" => first.key = Some(path(file, &full, item, instance)?),
            "certificates" => more_certificates(file, item, instance, &mut certificates, config)?,
            "min_version" => {
                min_version = one_of(
                    file,
                    &full,
                    item,
                    &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)],
                )?;
            }
            "client_certificate" => {
                let known = [
                    ("none", ClientCertificate::None),
                    ("request", ClientCertificate::Request),
                    ("require", ClientCertificate::Require),
                ];
                client_certificate = (one_of(file, &full, item, &known)?, item.span());
            }
            "client_ca" => client_ca = Some(path(file, &full, item, instance)?),
            _ => file.warn(&place(table, name, item), &full, config),
        }
    }
    if let Some(files) = first.whole(file, "tls", span)? {
        certificates.insert(0, files);
    }
    let (client_certificate, client_span) = client_certificate;
    if client_certificate != ClientCertificate::None && client_ca.is_none() {
        return Err(file.error(&client_span, "tls.client_ca", "is missing"));
    }
    config.tls = (!certificates.is_empty()).then_some(TlsConfig {
        certificates,
        min_version,
        client_certificate,
        client_ca,
    });
    Ok(())
}

/// The files of a certificate, as far as they are there.
#[derive(Default)]
struct Files {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Files {
    fn whole(
        self,
        file: &File<'_>,
        table: &str,
        span: &Option<Range<usize>>,
    ) -> Result<Option<CertificateFiles>> {
        let missing = |key: &str| Err(file.error(span, &format!("{table}.{key}"), "is missing"));
        match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Ok(Some(CertificateFiles { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => missing("key"),
            (None, Some(_)) => missing("certificate"),
        }
    }
}

fn more_certificates(
    file: &File<'_>,
    item: &Item,
    instance: &Path,
    certificates: &mut Vec<CertificateFiles>,
    config: &mut Config,
) -> Result<()> {
    const KEY: &str = "tls.certificates";
    let mut add = |table: &dyn TableLike, span: Option<Range<usize>>| {
        if certificates.len() >= CERTIFICATES {
            return Err(file.error(&span, KEY, format_args!("more than {CERTIFICATES}")));
        }
        let mut files = Files::default();
        for (name, item) in table.iter() {
            let full = format!("{KEY}.{name}");
            match name {
                "certificate" => files.certificate = Some(path(file, &full, item, instance)?),
                "key" => files.key = Some(path(file, &full, item, instance)?),
                _ => file.warn(&place(table, name, item), &full, config),
            }
        }
        match files.whole(file, KEY, &span)? {
            Some(files) => certificates.push(files),
            None => return Err(file.error(&span, "tls.certificates.certificate", "is missing")),
        }
        Ok(())
    };
    let what = "must be tables [[tls.certificates]]";
    if let Some(tables) = item.as_array_of_tables() {
        tables.iter().try_for_each(|table| add(table, table.span()))
    } else if let Some(array) = item.as_array() {
        array.iter().try_for_each(|value| match value.as_inline_table() {
            Some(table) => add(table, value.span()),
            None => Err(file.error(&value.span(), KEY, what)),
        })
    } else {
        Err(file.error(&item.span(), KEY, what))
    }
}

/// One of these texts, as the value that stands for it.
fn one_of<T: Copy>(file: &File<'_>, key: &str, item: &Item, known: &[(&str, T)]) -> Result<T> {
    let text = file.text(key, item)?;
    known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<String> = known.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let what = format!("{text:?} is not one of {}", names.join(", "));
        file.error(&item.span(), key, what)
    })
}

fn path(file: &File<'_>, key: &str, item: &Item, instance: &Path) -> Result<std::path::PathBuf> {
    let text = file.text(key, item)?;
    if text.is_empty() || text.contains('\0') {
        return Err(file.error(&item.span(), key, "must be the path of a PEM file"));
    }
    Ok(instance.join(text))
}

fn auth(file: &File<'_>, table: &dyn TableLike, config: &mut Config) -> Result<()> {
    const KEY: &str = "auth.mechanisms";
    for (name, item) in table.iter() {
        if name != "mechanisms" {
            file.warn(&place(table, name, item), &format!("auth.{name}"), config);
            continue;
        }
        let Some(list) = item.as_array() else {
            let what = format!("must be a list of mechanisms, not {}", type_of(item));
            return Err(file.error(&item.span(), KEY, what));
        };
        config.mechanisms = Mechanisms::NONE;
        for value in list {
            let mechanism = value.as_str().and_then(|name| Mechanism::from_name(name.as_bytes()));
            let Some(mechanism) = mechanism else {
                let known: Vec<&str> = Mechanism::ALL.iter().map(|m| m.name()).collect();
                let what = format!("must hold names out of {}, in quotes", known.join(", "));
                return Err(file.error(&value.span(), KEY, what));
            };
            config.mechanisms = config.mechanisms.with(mechanism);
        }
    }
    Ok(())
}

fn smtp(file: &File<'_>, table: &dyn TableLike, config: &mut Config) -> Result<()> {
    const KEY: &str = "smtp.extensions";
    if let Some(item) = table.get("extensions") {
        let Some(list) = item.as_array() else {
            let what = format!("must be a list of extensions, not {}", type_of(item));
            return Err(file.error(&item.span(), KEY, what));
        };
        config.extensions = Extensions::NONE;
        for value in list {
            let with = value.as_str().and_then(|name| config.extensions.with(name));
            config.extensions = with.ok_or_else(|| {
                let known = Extensions::NAMES.join(", ");
                let what = format!("must hold names out of {known}, in quotes");
                file.error(&value.span(), KEY, what)
            })?;
        }
    }
    numbers(file, "smtp", table, &["extensions"], config)
}

fn policy(file: &File<'_>, table: &dyn TableLike, config: &mut Config) -> Result<()> {
    let rules = &mut config.rules;
    if let Some(item) = table.get("plaintext_login") {
        let known = [
            ("never", PlaintextLogin::Never),
            ("loopback", PlaintextLogin::Loopback),
            ("always", PlaintextLogin::Always),
        ];
        rules.plaintext_login = one_of(file, "policy.plaintext_login", item, &known)?;
    }
    if let Some(item) = table.get("early_talkers") {
        let known = [("refuse", true), ("note", false)];
        rules.refuse_early_talkers = one_of(file, "policy.early_talkers", item, &known)?;
    }
    for (key, list) in [
        ("relay_networks", &mut rules.relay_networks),
        ("exempt_networks", &mut rules.defence.exempt),
        ("proxy_trusted", &mut rules.proxy_trusted),
        ("xclient_trusted", &mut rules.xclient_trusted),
    ] {
        if let Some(item) = table.get(key) {
            *list = networks(file, &format!("policy.{key}"), item)?;
        }
    }
    let others = [
        "plaintext_login",
        "early_talkers",
        "relay_networks",
        "exempt_networks",
        "proxy_trusted",
        "xclient_trusted",
    ];
    numbers(file, "policy", table, &others, config)
}

fn networks(file: &File<'_>, key: &str, item: &Item) -> Result<Vec<Network>> {
    let Some(list) = item.as_array() else {
        let what = format!("must be a list of networks, not {}", type_of(item));
        return Err(file.error(&item.span(), key, what));
    };
    if list.len() > NETWORKS {
        let what = format!("{} networks, the limit is {NETWORKS}", list.len());
        return Err(file.error(&item.span(), key, what));
    }
    let network = |value: &toml_edit::Value| {
        let Some(text) = value.as_str() else {
            let what = "must hold texts in quotes, such as \"10.0.0.0/8\"";
            return Err(file.error(&value.span(), key, what));
        };
        text.parse().map_err(|e: Error| file.error(&value.span(), key, e.message()))
    };
    list.iter().map(network).collect()
}

fn submission(file: &File<'_>, table: &dyn TableLike, config: &mut Config) -> Result<()> {
    const KEY: &str = "submission.sender_rights";
    if let Some(item) = table.get("sender_rights") {
        config.rules.sender_rights = match file.text(KEY, item)? {
            "login" => SenderRights::Login,
            "envelope" => SenderRights::Envelope,
            "header" => SenderRights::Header,
            other => {
                let what = format!("{other:?} is not one of \"login\", \"envelope\", \"header\"");
                return Err(file.error(&item.span(), KEY, what));
            }
        };
    }
    numbers(file, "submission", table, &["sender_rights"], config)
}

/// Takes the numbers of a table; names what is neither a number of ours nor in `others`.
fn numbers(
    file: &File<'_>,
    name: &str,
    table: &dyn TableLike,
    others: &[&str],
    config: &mut Config,
) -> Result<()> {
    for (key, item) in table.iter() {
        if others.contains(&key) {
            continue;
        }
        let full = format!("{name}.{key}");
        let Some(number) = NUMBERS.iter().find(|n| n.table == name && n.key == key) else {
            file.warn(&place(table, key, item), &full, config);
            continue;
        };
        let bounds = format!("a whole number from {} to {}", number.least, number.most);
        let Some(value) = item.as_integer() else {
            let what = format!("must be {bounds}, not {}", type_of(item));
            return Err(file.error(&item.span(), &full, what));
        };
        match u64::try_from(value) {
            Ok(v) if (number.least..=number.most).contains(&v) => (number.set)(config, v),
            _ => {
                let what = format!("{value} is not {bounds}");
                return Err(file.error(&item.span(), &full, what));
            }
        }
    }
    Ok(())
}
