use super::*;
use crate::instance::{is_instance, parse_listener};
use crate::time::SystemClock;
use crate::vfs::sim::Disk;

const DIR: &str = "/srv/mail";

fn wanted() -> Setup {
    Setup {
        hostname: "mail.example.test".to_owned(),
        domains: vec!["example.test".to_owned(), "example.com".to_owned()],
        postmaster_password: "postmaster's own".to_owned(),
        listeners: vec![
            parse_listener("smtp=127.0.0.1:2525").unwrap(),
            parse_listener("pop3s=127.0.0.1:2995").unwrap(),
        ],
        tls: TlsSetup::SelfSigned,
        lanes: 0,
    }
}

fn plan() -> Plan {
    Plan::new(&disk(), &SystemClock::new(), &wanted()).unwrap()
}

/// An empty disk.
fn disk() -> Disk {
    let fs = Disk::new();
    fs.create_dir_all(dir().parent().unwrap()).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    fs
}

fn shared(fs: &Disk) -> Arc<dyn Fs> {
    Arc::new(fs.clone())
}

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn run(fs: &Disk, plan: &Plan) -> Result<()> {
    plan.carry_out(&shared(fs), &SystemClock::shared(), dir())
}

fn names(fs: &Disk) -> Vec<String> {
    fs.read_dir(dir()).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn put(fs: &Disk, name: &str) {
    let path = dir().join(name);
    fs.create_dir_all(path.parent().unwrap()).unwrap();
    fs.open(&path, Open::CreateNew).unwrap().write_at(b"kept", 0).unwrap();
}

/// Opens the instance as an engine would and checks that everything is in it.
fn assert_whole(fs: &Disk) {
    is_instance(fs, dir()).unwrap();
    let config = Config::load(fs, dir()).unwrap();
    assert_eq!(config.hostname, "mail.example.test");
    assert_eq!(config.listeners.len(), 2);
    let files = config.tls.unwrap().certificates.remove(0);
    certificate::read(fs, &files.certificate, &files.key).unwrap();
    let store = Store::open(shared(fs), SystemClock::shared(), dir(), options()).unwrap();
    let people = Directory::load(Arc::new(store.clone())).unwrap();
    assert_eq!(people.domains(), ["example.com", "example.test"]);
    let postmaster = people.account("postmaster@example.test").unwrap();
    let mailboxes = Mailboxes::new(&store).list(postmaster.id).unwrap();
    assert_eq!(mailboxes.len(), 1);
    assert_eq!(mailboxes[0].name, "INBOX");
    assert_eq!(mailboxes[0].uid_validity, postmaster.uid_validity);
    store.close().unwrap();
}

/// Either there is no instance and a set-up succeeds, or there is a whole one.
fn assert_none_or_whole(fs: &Disk, plan: &Plan, when: &str) {
    match is_instance(fs, dir()) {
        Ok(()) => assert_whole(fs),
        Err(e) => {
            assert_eq!(e.kind(), Kind::NotAnInstance, "{when}: {e}");
            if let Err(e) = run(fs, plan) {
                panic!("{when}: the next set-up failed: {e}, in {:?}", names(fs));
            }
        }
    }
}

/// An operation of a set-up: the n-th on a path of set-up's own, or the n-th on one of the store's.
#[derive(Clone, Copy, Debug)]
enum Nth {
    Own(usize),
    Store(usize),
}

/// Counts operations down to one of them.
struct Countdown(Nth);

impl Countdown {
    fn is_now(&mut self, path: &Path) -> bool {
        let inside = path.strip_prefix(dir()).ok().and_then(|inside| inside.iter().next());
        let name = inside.and_then(|name| name.to_str()).unwrap_or_default();
        let store = STORE_FILES.contains(&name) || STORE_DIRS.contains(&name);
        match &mut self.0 {
            Nth::Own(left) if !store => *left = left.wrapping_sub(1),
            Nth::Store(left) if store => *left = left.wrapping_sub(1),
            _ => return false,
        }
        matches!(self.0, Nth::Own(0) | Nth::Store(0))
    }
}

/// Every operation on a path of set-up's own, and some of the store's, whose faults are tried in its own
/// tests. The store's threads make their number vary a little.
fn operations(plan: &Plan) -> Vec<Nth> {
    let fs = disk();
    let counts = Arc::new(Mutex::new((0, 0)));
    let counted = Arc::clone(&counts);
    fs.on_operation(move |_, path| {
        let mut counts = counted.lock();
        if Countdown(Nth::Own(1)).is_now(path) {
            counts.0 += 1
        } else {
            counts.1 += 1
        }
        Ok(())
    });
    run(&fs, plan).unwrap();
    let (own, store) = *counts.lock();
    assert!(own > 20 && store > 50, "{own} {store}");
    let all = (1..=own + 1).map(Nth::Own);
    all.chain((1..store + 8).step_by(store / 12).map(Nth::Store)).collect()
}

#[test]
fn a_set_up_makes_a_whole_instance_and_leaves_nothing_else() {
    let fs = disk();
    setup(&shared(&fs), &SystemClock::shared(), dir(), &wanted()).unwrap();
    assert_whole(&fs);
    let store = Store::open(shared(&fs), SystemClock::shared(), dir(), options()).unwrap();
    let people = Directory::load(Arc::new(store.clone())).unwrap();
    assert!(people.verify("postmaster@example.test", "postmaster's own").is_some());
    store.close().unwrap();
    for name in names(&fs) {
        let own = name == config::FILE
            || name == TLS_DIR
            || STORE_FILES.contains(&name.as_str())
            || STORE_DIRS.contains(&name.as_str());
        assert!(own, "{name}");
    }
    // A power cut right after it changes nothing.
    assert_whole(&fs.after_power_cut());
}

#[test]
fn one_failure_anywhere_leaves_none_or_a_whole_instance() {
    let plan = plan();
    for n in operations(&plan) {
        let fs = disk();
        let mut countdown = Countdown(n);
        fs.on_operation(move |_, path| {
            if countdown.is_now(path) { Err(io::Error::other("failed on purpose")) } else { Ok(()) }
        });
        let result = run(&fs, &plan);
        fs.forget_hook();
        match result {
            Ok(()) => assert_whole(&fs),
            Err(e) => {
                let gone = fs.metadata(dir()).is_err();
                let marked = !gone && names(&fs).iter().any(|name| name == UNFINISHED);
                assert!(gone || marked || is_instance(&fs, dir()).is_ok(), "{n:?}: {e}");
                assert_none_or_whole(&fs, &plan, &format!("{n:?} failed ({e})"));
            }
        }
    }
}

#[test]
fn a_disk_that_fails_for_ever_leaves_none_or_a_whole_instance() {
    let plan = plan();
    for n in operations(&plan) {
        let fs = disk();
        let mut countdown = Countdown(n);
        let mut failing = false;
        fs.on_operation(move |_, path| {
            failing |= countdown.is_now(path);
            if failing { Err(io::Error::other("failed on purpose")) } else { Ok(()) }
        });
        let result = run(&fs, &plan);
        let after = fs.copy();
        fs.forget_hook();
        if result.is_ok() {
            assert_whole(&after);
        } else {
            assert_none_or_whole(&after, &plan, &format!("from {n:?} on all failed"));
        }
    }
}

#[test]
fn a_power_cut_anywhere_leaves_none_or_a_whole_instance() {
    let plan = plan();
    for n in operations(&plan) {
        let fs = disk();
        let cut: Arc<Mutex<Option<Disk>>> = Arc::default();
        let (mut countdown, keep, own) = (Countdown(n), Arc::clone(&cut), fs.clone());
        fs.on_operation(move |_, path| {
            if countdown.is_now(path) {
                *keep.lock() = Some(own.after_power_cut());
            }
            Ok(())
        });
        run(&fs, &plan).unwrap();
        fs.forget_hook();
        let Some(left) = cut.lock().take() else { continue };
        assert_none_or_whole(&left, &plan, &format!("power cut before {n:?}"));
    }
}

#[test]
fn nothing_is_made_unless_everything_validates() {
    let good = wanted();
    let pem = |name: &str| Path::new("/pem").join(name);
    let files = |certificate: &str, key: &str| TlsSetup::Files {
        certificate: pem(certificate),
        key: pem(key),
    };
    let listeners = |all: &[&str]| all.iter().map(|l| parse_listener(l).unwrap()).collect();
    let cases: Vec<(Setup, Kind, &str)> = vec![
        (Setup { hostname: "mail".into(), ..good.clone() }, Kind::InvalidArgument, "\"mail\""),
        (Setup { domains: vec![], ..good.clone() }, Kind::InvalidArgument, "at least one"),
        (
            Setup { domains: vec!["exa mple.test".into()], ..good.clone() },
            Kind::InvalidArgument,
            "exa mple.test",
        ),
        (
            Setup { domains: vec!["a.test".into(), "A.test".into()], ..good.clone() },
            Kind::Exists,
            "a.test",
        ),
        (
            Setup { postmaster_password: "short".into(), ..good.clone() },
            Kind::Password,
            "postmaster",
        ),
        (Setup { postmaster_password: " leading".into(), ..good.clone() }, Kind::Password, "white"),
        (
            Setup {
                listeners: listeners(&["smtp=127.0.0.1:25", "pop3=127.0.0.1:25"]),
                ..good.clone()
            },
            Kind::AddressInUse,
            "listener pop3",
        ),
        (Setup { tls: TlsSetup::None, ..good.clone() }, Kind::Certificate, "listener pop3s"),
        (Setup { lanes: 17, ..good.clone() }, Kind::InvalidArgument, "17 lanes"),
        (Setup { tls: files("none", "key"), ..good.clone() }, Kind::PathNotFound, "/pem/none"),
        (Setup { tls: files("cert", "none"), ..good.clone() }, Kind::PathNotFound, "/pem/none"),
        (Setup { tls: files("text", "key"), ..good.clone() }, Kind::Certificate, "/pem/text"),
        (Setup { tls: files("key", "key"), ..good.clone() }, Kind::Certificate, "/pem/key"),
        (Setup { tls: files("cut", "key"), ..good.clone() }, Kind::Certificate, "/pem/cut"),
        (Setup { tls: files("cert", "text"), ..good.clone() }, Kind::PrivateKey, "/pem/text"),
        (Setup { tls: files("cert", "cert"), ..good }, Kind::PrivateKey, "/pem/cert"),
    ];
    let pair = certificate::self_signed("mail.example.test", 0).unwrap();
    let cut = pair.certificate.len() / 2;
    for (setup_, kind, named) in cases {
        let fs = disk();
        fs.create_dir_all(Path::new("/pem")).unwrap();
        for (name, bytes) in [
            ("cert", pair.certificate.as_slice()),
            ("cut", &pair.certificate[..cut]),
            ("key", pair.key.as_slice()),
            ("text", b"no PEM\n"),
        ] {
            fs.open(&pem(name), Open::CreateNew).unwrap().write_at(bytes, 0).unwrap();
        }
        let error = setup(&shared(&fs), &SystemClock::shared(), dir(), &setup_).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        // Windows joins paths with its own character.
        assert!(error.message().replace('\\', "/").contains(named), "{error}");
        assert!(fs.metadata(dir()).is_err(), "{error}");
    }
}

#[test]
fn a_directory_is_not_made_below_one_that_does_not_exist() {
    let fs = disk();
    let deep = Path::new("/srv/none/mail");
    let error = setup(&shared(&fs), &SystemClock::shared(), deep, &wanted()).unwrap_err();
    assert_eq!(error.kind(), Kind::PathNotFound);
    assert!(error.message().contains("/srv/none:"), "{error}");
    assert!(fs.read_dir(Path::new("/srv")).unwrap().is_empty());
}

#[test]
fn given_pem_files_are_copied() {
    let fs = disk();
    let pair = certificate::self_signed("mail.example.test", 0).unwrap();
    write_new(&fs, Path::new("/c.pem"), &pair.certificate).unwrap();
    write_new(&fs, Path::new("/k.pem"), &pair.key).unwrap();
    let tls = TlsSetup::Files { certificate: "/c.pem".into(), key: "/k.pem".into() };
    setup(&shared(&fs), &SystemClock::shared(), dir(), &Setup { tls, ..wanted() }).unwrap();
    fs.remove_file(Path::new("/c.pem")).unwrap();
    fs.remove_file(Path::new("/k.pem")).unwrap();
    assert_whole(&fs);
}

#[test]
fn a_directory_with_anything_else_in_it_is_refused_by_name_and_left_alone() {
    let plan = plan();
    for (present, named) in [
        (vec!["notes.txt"], "notes.txt"),
        (vec![UNFINISHED, "notes.txt"], "notes.txt"),
        (vec![UNFINISHED, "seg/a", "tls/other.pem"], "tls"),
        (vec![UNFINISHED, "index/deep/er"], "index"),
        // A store without a mark is an instance whose configuration was lost.
        (vec!["FORMAT", "seg/a"], "FORMAT"),
        (vec!["seg/a"], "seg"),
    ] {
        let fs = disk();
        for name in &present {
            put(&fs, name);
        }
        let error = run(&fs, &plan).unwrap_err();
        assert_eq!(error.kind(), Kind::Exists, "{error}");
        assert!(error.message().contains(&format!("{named:?}")), "{error}");
        for name in &present {
            assert!(fs.metadata(&dir().join(name)).is_ok(), "{name}");
        }
        assert!(!names(&fs).contains(&SETUP_LOCK.to_owned()));
    }
}

#[test]
fn a_second_set_up_leaves_the_instance_alone() {
    let fs = disk();
    let plan = plan();
    run(&fs, &plan).unwrap();
    let before = names(&fs);
    let error = run(&fs, &plan).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
    assert!(error.message().contains("holds an instance already"), "{error}");
    assert_eq!(names(&fs), before);
    assert_whole(&fs);
}

#[test]
fn two_set_ups_at_once_do_not_disturb_each_other() {
    let fs = disk();
    let plan = plan();
    fs.create_dir_all(dir()).unwrap();
    let lock = fs.try_lock(&dir().join(SETUP_LOCK)).unwrap().unwrap();
    put(&fs, UNFINISHED);
    put(&fs, "seg/a");
    let error = run(&fs, &plan).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked, "{error}");
    assert_eq!(names(&fs), [UNFINISHED, "seg", SETUP_LOCK]);
    drop(lock);
    run(&fs, &plan).unwrap();
    assert_whole(&fs);
}

#[test]
fn an_empty_directory_and_a_fresh_volume_are_taken() {
    let plan = plan();
    for present in [vec![], vec!["lost+found/x"]] {
        let fs = disk();
        fs.create_dir_all(dir()).unwrap();
        for name in &present {
            put(&fs, name);
        }
        run(&fs, &plan).unwrap();
        assert_whole(&fs);
    }
}

#[test]
fn errors_say_what_is_there_instead_of_an_instance() {
    for (present, expected) in [
        (vec![], "is an empty directory"),
        (vec!["notes.txt"], "it has no posthouse.toml"),
        (vec!["FORMAT"], "its posthouse.toml is missing"),
        (vec![UNFINISHED, "FORMAT"], "interrupted"),
    ] {
        let fs = disk();
        fs.create_dir_all(dir()).unwrap();
        for name in &present {
            put(&fs, name);
        }
        let error = is_instance(&fs, dir()).unwrap_err();
        assert_eq!(error.kind(), Kind::NotAnInstance);
        assert!(error.message().starts_with(DIR), "{error}");
        assert!(error.message().contains(expected), "{error}");
        assert_eq!(Config::load(&fs, dir()).unwrap_err().message(), error.message());
    }
    let fs = disk();
    assert!(is_instance(&fs, dir()).unwrap_err().message().contains("does not exist"));
    put(&fs, "file");
    let error = is_instance(&fs, &dir().join("file")).unwrap_err();
    assert!(error.message().contains("is a file"), "{error}");
}

#[test]
fn set_is_all_or_nothing_on_disk() {
    let fs = disk();
    let plain = Setup { tls: TlsSetup::None, listeners: vec![], ..wanted() };
    let text = Plan::new(&fs, &SystemClock::new(), &plain).unwrap().text;
    let path = dir().join(config::FILE);
    fs.create_dir_all(dir()).unwrap();
    write_new(&fs, &path, text.as_bytes()).unwrap();
    let read = || crate::vfs::read_small(&fs, &path, 1 << 20).unwrap();

    Config::set(&fs, dir(), "smtp.recipients", "250").unwrap();
    let changed = String::from_utf8(read()).unwrap();
    assert_eq!(changed, text.replace("recipients = 1000", "recipients = 250"));
    for (key, value) in [("smtp.recipients", "0"), ("smtp.nothing", "1"), ("tls.key", "k.pem")] {
        assert!(Config::set(&fs, dir(), key, value).is_err(), "{key}");
        assert_eq!(read(), changed.as_bytes());
    }
    Config::set_all(&fs, dir(), &[("tls.key", "k.pem"), ("tls.certificate", "c.pem")]).unwrap();
    let tls = Config::load(&fs, dir()).unwrap().tls.unwrap();
    assert_eq!(tls, config::TlsConfig::with(dir().join("c.pem"), dir().join("k.pem")));
}

/// Without a ballast, which in memory is memory.
fn options() -> OpenOptions {
    OpenOptions { ballast_bytes: 0, ..OpenOptions::default() }
}
