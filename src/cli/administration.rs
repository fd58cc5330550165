//! `account`, `alias`, `queue`, `mailbox`, `check`, `compact`, `scrub`, `status` and `stop`: they ask an instance and print the answer.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use posthouse::engine::Status;
use posthouse::engine::admin::{QueueRow, Request, Response};
use posthouse::store::RepairOptions;

use super::access::Access;
use super::output::{columns, count, one_line, size, time};
use super::{Failure, InstanceArgs, Outcome, password};

/// Entries that are asked for at a time.
const PAGE: usize = 200;

/// Recipients that a line of the queue shows.
const SHOWN: usize = 3;

#[derive(Subcommand)]
pub enum Account {
    /// Add an account
    Add(AccountAdd),
    /// List the accounts
    List(InstanceArgs),
    /// Remove an account and its mail
    Remove(AddressArgs),
    /// Set an account's password
    SetPassword(PasswordArgs),
}

#[derive(Args)]
pub struct AccountAdd {
    #[command(flatten)]
    instance: InstanceArgs,
    /// Its address; the first one given is the primary one
    #[arg(long, value_name = "ADDRESS", required = true)]
    address: Vec<String>,
    /// Its login name, if that is not its primary address
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    /// File with its password; - is standard input
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
}

#[derive(Args)]
pub struct AddressArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    /// The address
    #[arg(long, value_name = "ADDRESS")]
    address: String,
}

#[derive(Args)]
pub struct PasswordArgs {
    #[command(flatten)]
    address: AddressArgs,
    /// File with the new password; - is standard input
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
}

#[derive(Subcommand)]
pub enum Alias {
    /// Add an alias
    Add(AliasAdd),
    /// List the aliases
    List(InstanceArgs),
    /// Remove an alias
    Remove(AddressArgs),
}

#[derive(Args)]
pub struct AliasAdd {
    #[command(flatten)]
    address: AddressArgs,
    /// Where its mail goes
    #[arg(long, value_name = "ADDRESS", required = true)]
    to: Vec<String>,
}

#[derive(Subcommand)]
pub enum Queue {
    /// List what waits for delivery to other servers
    List(InstanceArgs),
    /// Show an entry with its recipients
    Show(EntryArgs),
    /// Take an entry out of the queue for ever
    Remove(EntryArgs),
    /// Try now what waits for another attempt
    Run(RunArgs),
}

#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    /// Only mail for this domain; behind @ for its subdomains too
    #[arg(value_name = "DOMAIN")]
    domain: Option<String>,
}

#[derive(Args)]
pub struct EntryArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    /// The entry's id, as listed
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Subcommand)]
pub enum Mailbox {
    /// List an account's mailboxes and their messages
    List(MailboxArgs),
}

#[derive(Args)]
pub struct MailboxArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    /// One of the account's addresses
    #[arg(long, value_name = "ADDRESS")]
    account: String,
}

/// Opens an instance, lets `work` ask it, and closes it.
fn with(instance: &Path, work: impl FnOnce(&mut Access) -> Outcome) -> Outcome {
    let mut access = Access::open(instance)?;
    let outcome = work(&mut access);
    let closed = access.close();
    outcome?;
    Ok(closed?)
}

/// An answer of another kind than the request asks for: the server is of another version.
pub fn unexpected<T>() -> Result<T, Failure> {
    Err(Failure::new("the running server's answer does not fit the request (another version?)"))
}

fn done(instance: &Path, request: Request) -> Outcome {
    with(instance, |access| match access.ask(request)? {
        Response::Done => Ok(()),
        _ => unexpected(),
    })
}

pub fn account(command: Account) -> Outcome {
    match command {
        Account::Add(args) => {
            let password = password::read(&args.password_file)?;
            with(&args.instance.instance, |access| {
                let request =
                    Request::AccountAdd { addresses: args.address, login: args.login, password };
                let Response::Account(account) = access.ask(request)? else {
                    return unexpected();
                };
                let address = account.addresses.first().map_or("", String::as_str);
                let (address, login) = (one_line(address), one_line(&account.login));
                writeln!(io::stdout(), "added account {address} with login {login}")?;
                Ok(())
            })
        }
        Account::List(args) => with(&args.instance, accounts),
        Account::Remove(args) => {
            done(&args.instance.instance, Request::AccountRemove { address: args.address })
        }
        Account::SetPassword(args) => {
            let password = password::read(&args.password_file)?;
            let AddressArgs { instance, address } = args.address;
            done(&instance.instance, Request::AccountSetPassword { address, password })
        }
    }
}

fn accounts(access: &mut Access) -> Outcome {
    let mut after = None;
    let mut rows = Vec::new();
    loop {
        let Response::Accounts(page) = access.ask(Request::AccountList { after, limit: PAGE })?
        else {
            return unexpected();
        };
        for account in page.entries {
            let mut addresses = account.addresses.into_iter();
            let primary = addresses.next().unwrap_or_default();
            let others: Vec<String> = addresses.collect();
            rows.push(vec![primary, account.login, others.join(" ")]);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let mut table = vec![["ADDRESS", "LOGIN", "OTHER ADDRESSES"].map(str::to_owned).to_vec()];
    table.extend(rows);
    columns(&mut io::stdout().lock(), &table)?;
    Ok(())
}

pub fn alias(command: Alias) -> Outcome {
    match command {
        Alias::Add(args) => {
            let AddressArgs { instance, address } = args.address;
            done(&instance.instance, Request::AliasAdd { address, targets: args.to })
        }
        Alias::List(args) => with(&args.instance, |access| {
            let mut after = None;
            let mut table = vec![["ALIAS", "TO"].map(str::to_owned).to_vec()];
            loop {
                let Response::Aliases(page) =
                    access.ask(Request::AliasList { after, limit: PAGE })?
                else {
                    return unexpected();
                };
                table
                    .extend(page.entries.into_iter().map(|a| vec![a.address, a.targets.join(" ")]));
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            columns(&mut io::stdout().lock(), &table)?;
            Ok(())
        }),
        Alias::Remove(args) => {
            done(&args.instance.instance, Request::AliasRemove { address: args.address })
        }
    }
}

pub fn queue(command: Queue) -> Outcome {
    match command {
        Queue::List(args) => with(&args.instance, queue_list),
        Queue::Show(args) => with(&args.instance.instance, |access| {
            let Response::Queue(page) = access.ask(Request::QueueShow { id: args.id })? else {
                return unexpected();
            };
            let mut out = io::stdout().lock();
            for entry in page.entries {
                writeln!(out, "id        {}", entry.id)?;
                writeln!(out, "accepted  {}", time(entry.received))?;
                writeln!(out, "size      {} bytes", entry.size)?;
                writeln!(out, "from      <{}>", one_line(&entry.from))?;
                for (n, (address, state)) in entry.recipients.iter().enumerate() {
                    writeln!(out, "to        <{}> {state}", one_line(address))?;
                    if let Some(Some(attempt)) = entry.attempts.get(n) {
                        let word = if state == "failed" { "at" } else { "next at" };
                        let (attempts, when) = (attempt.attempts, time(attempt.time));
                        writeln!(out, "          attempts {attempts}, {word} {when}")?;
                        if !attempt.answer.is_empty() {
                            writeln!(out, "          {}", one_line(&attempt.answer))?;
                        }
                    }
                }
            }
            Ok(())
        }),
        Queue::Run(args) => with(&args.instance.instance, |access| {
            let Response::Started { messages } =
                access.ask(Request::QueueRun { domain: args.domain })?
            else {
                return unexpected();
            };
            let noun = if messages == 1 { "message is" } else { "messages are" };
            writeln!(io::stdout().lock(), "{messages} {noun} tried now")?;
            Ok(())
        }),
        Queue::Remove(args) => done(&args.instance.instance, Request::QueueRemove { id: args.id }),
    }
}

fn queue_list(access: &mut Access) -> Outcome {
    let mut out = io::stdout().lock();
    let mut after = None;
    let mut entries = 0_u64;
    loop {
        let Response::Queue(page) = access.ask(Request::QueueList { after, limit: PAGE })? else {
            return unexpected();
        };
        let mut rows: Vec<Vec<String>> = page.entries.iter().map(queue_row).collect();
        if entries == 0 && !rows.is_empty() {
            rows.insert(0, ["ID", "SIZE", "ACCEPTED", "FROM", "TO"].map(str::to_owned).to_vec());
        }
        columns(&mut out, &rows)?;
        entries = entries.saturating_add(page.entries.len() as u64);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let noun = if entries == 1 { "entry" } else { "entries" };
    writeln!(out, "{entries} {noun} in the queue")?;
    Ok(())
}

fn queue_row(entry: &QueueRow) -> Vec<String> {
    let mut to: Vec<String> =
        entry.recipients.iter().take(SHOWN).map(|(address, _)| format!("<{address}>")).collect();
    // What nobody will deliver any more is not to be overlooked.
    let failed = entry.recipients.iter().filter(|(_, state)| state == "failed").count();
    if failed > 0 {
        to.push(format!("({failed} failed)"));
    }
    // One that waits for the time its sender chose was not tried.
    let tried = |n: usize| matches!(entry.attempts.get(n), Some(Some(row)) if row.attempts > 0);
    let states = entry.recipients.iter().enumerate();
    let deferred = states.filter(|(n, (_, state))| state == "deferred" && tried(*n)).count();
    if deferred > 0 {
        to.push(format!("({deferred} deferred)"));
    }
    let more = entry.recipients.len().saturating_sub(SHOWN);
    if more > 0 {
        to.push(format!("and {more} more"));
    }
    vec![
        entry.id.clone(),
        entry.size.to_string(),
        time(entry.received),
        format!("<{}>", entry.from),
        to.join(" "),
    ]
}

pub fn mailbox(command: Mailbox) -> Outcome {
    let Mailbox::List(args) = command;
    with(&args.instance.instance, |access| {
        let address = args.account;
        let Response::Mailboxes(mailboxes) =
            access.ask(Request::MailboxList { address: address.clone() })?
        else {
            return unexpected();
        };
        let mut out = io::stdout().lock();
        for mailbox in mailboxes {
            writeln!(
                out,
                "{}: {}, {}, uidvalidity {}, next uid {}",
                one_line(&mailbox.name),
                count(mailbox.messages, "message"),
                size(mailbox.bytes),
                mailbox.uid_validity,
                mailbox.uid_next
            )?;
            messages(access, &mut out, &address, mailbox.mailbox)?;
        }
        Ok(())
    })
}

fn messages(access: &mut Access, out: &mut dyn Write, address: &str, mailbox: u32) -> Outcome {
    let mut after = 0;
    let mut first = true;
    loop {
        let request =
            Request::MessageList { address: address.to_owned(), mailbox, after, limit: PAGE };
        let Response::Messages(page) = access.ask(request)? else { return unexpected() };
        let mut rows = Vec::new();
        if first && !page.entries.is_empty() {
            rows.push(
                ["UID", "ID", "SIZE", "ACCEPTED", "FROM", "SUBJECT"].map(str::to_owned).to_vec(),
            );
        }
        first = false;
        for message in page.entries {
            let subject = match message.damage {
                Some(damage) => format!("(cannot be read: {damage})"),
                None => message.subject,
            };
            rows.push(vec![
                message.uid.to_string(),
                message.id,
                message.size.to_string(),
                time(message.received),
                message.from,
                subject,
            ]);
        }
        columns(out, &rows)?;
        match page.next.map(|next| next.parse()) {
            Some(Ok(next)) => after = next,
            Some(Err(_)) => return unexpected(),
            None => return Ok(()),
        }
    }
}

pub fn check(instance: &Path) -> Outcome {
    with(instance, |access| {
        // Drawn on terminals only.
        let bar = ProgressBar::new(0).with_style(byte_style());
        let answer = access.ask_with(Request::Check, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let Response::Check(report) = answer? else { return unexpected() };
        let mut out = io::stdout().lock();
        for problem in &report.problems {
            writeln!(out, "{}", one_line(problem))?;
        }
        if report.more_problems > 0 {
            writeln!(out, "and {}", count(report.more_problems, "more problem"))?;
        }
        writeln!(
            out,
            "{}, {}, {}, {} in the queue",
            count(report.segments, "segment"),
            count(report.records, "record"),
            count(report.messages, "message"),
            report.queue_entries
        )?;
        let problems = (report.problems.len() as u64).saturating_add(report.more_problems);
        if problems > 0 {
            let text = format!("{} has {}", instance.display(), count(problems, "problem"));
            return Err(Failure::new(text));
        }
        writeln!(out, "all is well")?;
        Ok(())
    })
}

pub fn compact(instance: &Path) -> Outcome {
    with(instance, |access| {
        let Response::Compact(report) = access.ask(Request::Compact)? else { return unexpected() };
        let mut out = io::stdout().lock();
        for finding in &report.findings {
            writeln!(out, "{}", one_line(finding))?;
        }
        writeln!(
            out,
            "{} of {} freed with {}, {} moved",
            report.freed,
            count(report.segments, "segment"),
            count(report.freed_bytes, "byte"),
            count(report.moved, "message")
        )?;
        if report.held > 0 {
            writeln!(
                out,
                "{} cannot be freed while somebody reads",
                count(report.held, "segment")
            )?;
        }
        found(instance, &report.findings)
    })
}

pub fn scrub(instance: &Path) -> Outcome {
    with(instance, |access| {
        // Drawn on terminals only.
        let bar = ProgressBar::new(0).with_style(byte_style());
        let answer = access.ask_with(Request::Scrub, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let Response::Scrub(report) = answer? else { return unexpected() };
        let mut out = io::stdout().lock();
        for finding in &report.findings {
            writeln!(out, "{}", one_line(finding))?;
        }
        writeln!(
            out,
            "{}, {}, {}; {} counted, {} corrected",
            count(report.segments, "segment"),
            count(report.records, "record"),
            count(report.exports, "export"),
            count(report.messages, "message"),
            report.corrected
        )?;
        found(instance, &report.findings)
    })
}

fn found(instance: &Path, findings: &[String]) -> Outcome {
    if findings.is_empty() {
        return Ok(());
    }
    let findings = count(findings.len() as u64, "finding");
    Err(Failure::new(format!("{} has {findings}", instance.display())))
}

#[derive(Args)]
pub struct RepairArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    /// Remove lost messages from mailboxes and queue, after copying what is damaged to DIR/lost
    #[arg(long)]
    drop_lost: bool,
    /// Print the report as one JSON document
    #[arg(long)]
    json: bool,
}

pub fn repair(args: &RepairArgs) -> Outcome {
    let instance = &args.instance.instance;
    let bar = ProgressBar::new(0).with_style(byte_style());
    let options = RepairOptions { drop_lost: args.drop_lost, ..RepairOptions::default() };
    let done = posthouse::engine::repair(instance, &options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let report = done?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", report.to_json())?;
    } else {
        let lost: Vec<String> = report.lost.iter().map(ToString::to_string).collect();
        let copies: Vec<String> = report.copies.iter().map(|p| p.display().to_string()).collect();
        for (what, lines) in [
            ("mended: ", &report.notes),
            ("damaged: ", &report.damage),
            ("lost: ", &lost),
            ("copied to ", &copies),
        ] {
            for line in lines {
                writeln!(out, "{what}{}", one_line(line))?;
            }
        }
        // What is lost has been said.
        for line in report.problems.iter().filter(|line| !lost.contains(line)) {
            writeln!(out, "left: {}", one_line(line))?;
        }
        writeln!(
            out,
            "the index is made again from {} of exports and {} of the log; {} counted again",
            count(report.imported, "row"),
            count(report.replayed, "record"),
            count(report.recounted, "message"),
        )?;
        if report.dropped > 0 {
            let rows = count(report.dropped, "row");
            writeln!(out, "{rows} of lost messages removed from mailboxes and queue")?;
        }
    }
    if !report.problems.is_empty() {
        let problems = count(report.problems.len() as u64, "problem");
        let hint = match report.lost.is_empty() || args.drop_lost {
            true => "",
            false => "; --drop-lost removes the lost messages",
        };
        return Err(Failure::new(format!("{} has {problems}{hint}", instance.display())));
    }
    if !args.json {
        writeln!(out, "all is well")?;
    }
    Ok(())
}

/// How progress in bytes is drawn.
fn byte_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    /// Print all figures as one JSON document
    #[arg(long)]
    json: bool,
}

/// Says how an instance is. Succeeds when nothing needs anybody, so that a program can ask.
pub fn status(args: &StatusArgs) -> Outcome {
    with(&args.instance.instance, |access| {
        let Response::Status(status) = access.ask(Request::Status)? else { return unexpected() };
        let mut out = io::stdout().lock();
        if args.json {
            let text = serde_json::to_string(&status).map_err(Failure::new)?;
            writeln!(out, "{text}")?;
        } else {
            status_lines(&mut out, &status)?;
        }
        match status.well() {
            true => Ok(()),
            false => Err(Failure::new(&status.summary)),
        }
    })
}

fn status_lines(out: &mut dyn Write, status: &Status) -> Outcome {
    let ago = |millis: u64| if millis == 0 { "none yet".to_owned() } else { time(millis) };
    let serving = if status.serving { "yes" } else { "no, no server runs" };
    writeln!(out, "serving      {serving}")?;
    for lane in &status.lanes {
        let kind = if lane.large { " (large messages)" } else { "" };
        let state = match (lane.read_only_since, lane.rebuilding) {
            (0, false) => "can be written".to_owned(),
            (0, true) => "its index is being repaired".to_owned(),
            (since, _) => format!("read-only since {}: {}", time(since), one_line(&lane.reason)),
        };
        writeln!(out, "lane {:<7} {state}{kind}", lane.lane)?;
    }
    let (free, total) = (size(status.free_bytes), size(status.total_bytes));
    writeln!(out, "space        {}: {free} of {total} free", status.space)?;
    let live = status.live_bytes.map_or("unknown".to_owned(), size);
    let (segments, bytes) = (count(status.segments, "segment"), size(status.log_bytes));
    writeln!(out, "log          {segments} of {bytes}, {live} of it live")?;
    let freed = count(status.segments_freed, "segment");
    writeln!(out, "freed        {freed} with {} since the opening", size(status.freed_bytes))?;
    writeln!(out, "last scrub   {}", ago(status.scrubbed))?;
    let failed = count(status.export_failures, "failure");
    writeln!(out, "last export  {} since the opening, {failed}", ago(status.exported))?;
    for line in &status.damage {
        writeln!(out, "damage       {}", one_line(line))?;
    }
    if status.more_damage > 0 {
        writeln!(out, "damage       and {} more", status.more_damage)?;
    }
    if status.well() {
        writeln!(out, "{}", status.summary)?;
    }
    Ok(())
}

pub fn stop(instance: &Path) -> Outcome {
    let mut access = Access::open(instance)?;
    if let Access::Offline(_) = access {
        access.close()?;
        return Err(Failure::new(format_args!("no server runs on {}", instance.display())));
    }
    match access.ask(Request::Stop)? {
        Response::Done => Ok(()),
        _ => unexpected(),
    }
}
