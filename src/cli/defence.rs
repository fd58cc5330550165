//! `reload`, `lockouts` and `unlock`: what is asked of a running server only.

use std::io;
use std::path::Path;

use posthouse::engine::admin::{Request, Response};

use super::access::Access;
use super::administration::unexpected;
use super::output::{columns, one_line};
use super::{Failure, InstanceArgs, Outcome};

#[derive(clap::Args)]
pub struct UnlockArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    /// An address of the host, or the login name
    #[arg(value_name = "WHOM")]
    whom: String,
}

pub fn reload(args: &InstanceArgs) -> Outcome {
    done(&args.instance, Request::Reload)
}

pub fn unlock(args: UnlockArgs) -> Outcome {
    done(&args.instance.instance, Request::Unlock { whom: args.whom })
}

pub fn lockouts(args: &InstanceArgs) -> Outcome {
    let Response::Lockouts(rows) = ask(&args.instance, Request::Lockouts)? else {
        return unexpected();
    };
    let mut lines = vec![vec!["WHAT".to_owned(), "WHOM".to_owned(), "LEFT".to_owned()]];
    lines.extend(rows.iter().map(|row| {
        let left = match row.left_millis {
            Some(millis) => format!("{} s", millis.div_ceil(1000)),
            None => "until unlocked".to_owned(),
        };
        vec![if row.host { "host" } else { "login" }.to_owned(), one_line(&row.whom), left]
    }));
    columns(&mut io::stdout().lock(), &lines)?;
    Ok(())
}

fn done(instance: &Path, request: Request) -> Outcome {
    match ask(instance, request)? {
        Response::Done => Ok(()),
        _ => unexpected(),
    }
}

fn ask(instance: &Path, request: Request) -> Result<Response, Failure> {
    let mut access = Access::open(instance)?;
    if let Access::Offline(_) = access {
        access.close()?;
        return Err(Failure::new(format_args!("no server runs on {}", instance.display())));
    }
    access.ask(request)
}
