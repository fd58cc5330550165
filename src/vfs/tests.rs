//! What every file system promises, asked of the machine's and of the one in memory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::os::OsFs;
use super::sim::{Disk, Fault, Lot, Operation, Trouble};
use super::*;

/// Runs a test in an empty directory of both file systems.
#[allow(clippy::disallowed_methods)]
fn on_both(name: &str, test: fn(&dyn Fs, &Path)) {
    let memory = Disk::new();
    let dir = PathBuf::from("/dir");
    memory.create_dir_all(&dir).unwrap();
    test(&memory, &dir);
    let dir = std::env::temp_dir().join(format!("posthouse-vfs-{}-{name}", std::process::id()));
    let os = OsFs::new();
    os.create_dir_all(&dir).unwrap();
    test(&os, &dir);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn bytes_come_back_and_a_hole_reads_as_zeros() {
    on_both("bytes", |fs, dir| {
        let path = dir.join("file");
        assert_eq!(fs.open(&path, Open::Read).err().unwrap().kind(), ErrorKind::NotFound);
        assert_eq!(fs.open(&path, Open::ReadWrite).err().unwrap().kind(), ErrorKind::NotFound);
        let file = fs.open(&path, Open::CreateNew).unwrap();
        assert_eq!(fs.open(&path, Open::CreateNew).err().unwrap().kind(), ErrorKind::AlreadyExists);
        assert!(file.is_empty().unwrap());
        file.write_at(b"world", 10).unwrap();
        file.write_at(b"hello", 0).unwrap();
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        let mut buffer = [9; 20];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 15);
        assert_eq!(&buffer[..15], b"hello\0\0\0\0\0world");
        assert_eq!(file.read_at(&mut buffer, 15).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 1000).unwrap(), 0);
        file.set_len(3).unwrap();
        file.allocate(8).unwrap();
        file.allocate(2).unwrap();
        assert_eq!(file.len().unwrap(), 8);
        assert_eq!(read_small(fs, &path, 8).unwrap(), b"hel\0\0\0\0\0");
        assert_eq!(read_small(fs, &path, 7).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let reader = fs.open(&path, Open::Read).unwrap();
        assert!(reader.write_at(b"x", 0).is_err());
    });
}

#[test]
fn names_are_listed_renamed_linked_and_removed() {
    on_both("names", |fs, dir| {
        let sub = dir.join("a").join("b");
        fs.create_dir_all(&sub).unwrap();
        fs.create_dir_all(&sub).unwrap();
        for (name, bytes) in [("two", "22"), ("one", "1")] {
            fs.open(&sub.join(name), Open::Create).unwrap().write_at(bytes.as_bytes(), 0).unwrap();
        }
        fs.rename(&sub.join("two"), &sub.join("one")).unwrap();
        fs.hard_link(&sub.join("one"), &sub.join("three")).unwrap();
        fs.sync_dir(&sub).unwrap();
        let entry = |name: &str| Entry { name: name.into(), is_dir: false, len: 2 };
        assert_eq!(fs.read_dir(&sub).unwrap(), vec![entry("one"), entry("three")]);
        assert!(fs.metadata(&sub).unwrap().is_dir);
        assert!(fs.remove_dir(&sub).is_err());
        fs.remove_file(&sub.join("one")).unwrap();
        assert_eq!(read_small(fs, &sub.join("three"), 9).unwrap(), b"22");
        fs.remove_file(&sub.join("three")).unwrap();
        fs.remove_dir(&sub).unwrap();
        assert_eq!(fs.metadata(&sub).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs.read_dir(&sub).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs.sync_dir(&sub).unwrap_err().kind(), ErrorKind::NotFound);
        let space = fs.space(dir).unwrap();
        assert!(space.free > 0 && space.free <= space.total, "{space:?}");
    });
}

#[test]
fn a_lock_has_one_holder_also_within_a_process() {
    on_both("lock", |fs, dir| {
        let path = dir.join("LOCK");
        let held = fs.try_lock(&path).unwrap().unwrap();
        assert!(fs.try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(fs.try_lock(&path).unwrap().is_some());
    });
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    on_both("replace", |fs, dir| {
        let path = dir.join("file");
        replace(fs, &path, b"a longer first text").unwrap();
        replace(fs, &path, b"second").unwrap();
        assert_eq!(read_small(fs, &path, 100).unwrap(), b"second");
    });
}

#[test]
fn long_paths_are_paths() {
    on_both("long", |fs, dir| {
        let long = (0..6).fold(dir.to_path_buf(), |path, n| path.join(n.to_string().repeat(60)));
        assert!(long.as_os_str().len() > 360);
        fs.create_dir_all(&long).unwrap();
        replace(fs, &long.join("file"), b"text").unwrap();
        replace(fs, &long.join("file"), b"again").unwrap();
        fs.rename(&long.join("file"), &long.join("other")).unwrap();
        fs.hard_link(&long.join("other"), &long.join("file")).unwrap();
        assert_eq!(read_small(fs, &long.join("file"), 9).unwrap(), b"again");
        assert_eq!(fs.read_dir(&long).unwrap().len(), 2);
        assert!(fs.space(&long).unwrap().free > 0);
        assert!(fs.try_lock(&long.join("LOCK")).unwrap().is_some());
        fs.remove_file(&long.join("file")).unwrap();
    });
}

#[test]
fn a_directory_is_not_made_where_a_file_is() {
    on_both("file-in-the-way", |fs, dir| {
        let path = dir.join("file");
        fs.open(&path, Open::CreateNew).unwrap();
        assert!(fs.create_dir_all(&path).is_err());
        assert!(fs.create_dir_all(&path.join("below")).is_err());
    });
}

/// What a virus scanner does: it holds a file for a moment and shares it with nobody.
#[cfg(windows)]
#[test]
#[allow(clippy::disallowed_methods)]
fn a_stranger_who_holds_a_file_for_a_moment_is_waited_for() {
    use std::os::windows::fs::OpenOptionsExt;
    use std::time::Duration;

    const SHARING_VIOLATION: Option<i32> = Some(32);
    let dir = std::env::temp_dir().join(format!("posthouse-vfs-{}-stranger", std::process::id()));
    let os = OsFs::new();
    os.create_dir_all(&dir).unwrap();
    let (path, other) = (dir.join("file"), dir.join("other"));
    let make = || os.open(&path, Open::Create).unwrap().write_at(b"text", 0).unwrap();
    let hold = || std::fs::OpenOptions::new().read(true).share_mode(0).open(&path).unwrap();
    type Call<'a> = &'a dyn Fn() -> std::io::Result<()>;
    let calls: [Call<'_>; 3] =
        [&|| os.open(&path, Open::ReadWrite).map(drop), &|| os.rename(&path, &other), &|| {
            os.remove_file(&path)
        }];
    for call in calls {
        make();
        let stranger = hold();
        let lets_go = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            drop(stranger);
        });
        call().unwrap();
        lets_go.join().unwrap();
        // Not for ever: who stays is an error, the system's own.
        make();
        let stays = hold();
        assert_eq!(call().unwrap_err().raw_os_error(), SHARING_VIOLATION);
        drop(stays);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_power_cut_in_memory_leaves_what_was_synced() {
    let fs = Disk::new();
    let dir = Path::new("/dir");
    fs.create_dir_all(dir).unwrap();
    let file = fs.open(&dir.join("kept"), Open::Create).unwrap();
    file.write_at(b"synced", 0).unwrap();
    file.sync_data().unwrap();
    fs.open(&dir.join("nameless"), Open::Create).unwrap().sync_all().unwrap();
    fs.remove_file(&dir.join("nameless")).unwrap();
    fs.sync_dir(dir).unwrap();
    fs.open(&dir.join("lost"), Open::Create).unwrap().sync_all().unwrap();
    file.write_at(b"SYN", 0).unwrap();
    let left = fs.after_power_cut();
    assert_eq!(left.read_dir(dir).unwrap().len(), 1);
    assert_eq!(read_small(&left, &dir.join("kept"), 10).unwrap(), b"synced");
    assert_eq!(read_small(&fs.copy(), &dir.join("kept"), 10).unwrap(), b"SYNced");
}

#[test]
fn after_a_failed_sync_in_memory_a_second_one_proves_nothing() {
    let fs = Disk::new();
    let dir = Path::new("/dir");
    fs.create_dir_all(dir).unwrap();
    let file = fs.open(&dir.join("file"), Open::Create).unwrap();
    fs.sync_dir(dir).unwrap();
    fs.on_operation(|operation, _| match operation {
        Operation::Sync => Err(ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    file.write_at(b"lost", 0).unwrap();
    assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::StorageFull);
    fs.forget_hook();
    file.sync_data().unwrap();
    assert_eq!(read_small(&fs.after_power_cut(), &dir.join("file"), 10).unwrap(), [0; 4]);
}

/// A disk with a durable directory and a durable file of 2 KiB of ones.
fn disk_with_a_file() -> (Disk, PathBuf) {
    let disk = Disk::new();
    let dir = PathBuf::from("/dir");
    disk.create_dir_all(&dir).unwrap();
    let path = dir.join("file");
    let file = disk.open(&path, Open::CreateNew).unwrap();
    file.write_at(&[1; 2048], 0).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(&dir).unwrap();
    (disk, path)
}

/// All states that a power cut may leave.
fn states(disk: &Disk) -> Vec<Disk> {
    let (image, mut lot) = (disk.image(), Lot::each());
    let mut hashes = std::collections::BTreeSet::new();
    let mut states = Vec::new();
    loop {
        let (left, hash) = image.power_cut(&mut lot);
        if hashes.insert(hash) {
            states.push(left.disk());
        }
        if !lot.go_on() {
            return states;
        }
    }
}

#[test]
fn unsynced_sectors_are_kept_lost_or_torn_each_by_itself() {
    let (disk, path) = disk_with_a_file();
    let file = disk.open(&path, Open::ReadWrite).unwrap();
    file.write_at(&[2; 1024], 512).unwrap();
    let states = states(&disk);
    // Old, new, half of it new, a mixture: of two sectors.
    assert_eq!(states.len(), 16);
    let mut halves = 0;
    for state in &states {
        let bytes = read_small(state, &path, 4096).unwrap();
        assert_eq!(
            (bytes.len(), &bytes[..512], &bytes[1536..]),
            (2048, &[1; 512][..], &[1; 512][..])
        );
        halves += u32::from(bytes[512..768] == [2; 256] && bytes[768..1024] == [1; 256]);
    }
    assert_eq!(halves, 4);
    file.sync_data().unwrap();
    assert_eq!(self::states(&disk).len(), 1);
}

#[test]
fn a_length_that_came_without_its_data_shows_zeros() {
    let (disk, path) = disk_with_a_file();
    let file = disk.open(&path, Open::ReadWrite).unwrap();
    file.write_at(&[2; 512], 2048).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for state in states(&disk) {
        let bytes = read_small(&state, &path, 4096).unwrap();
        seen.insert((bytes.len(), bytes.get(2048).copied()));
    }
    assert!(seen.contains(&(2048, None)) && seen.contains(&(2560, Some(0))), "{seen:?}");
    assert!(seen.contains(&(2560, Some(2))));
}

#[test]
fn names_come_in_any_subset_and_a_rename_never_without_its_file() {
    let (disk, path) = disk_with_a_file();
    let dir = path.parent().unwrap();
    disk.open(&dir.join("new"), Open::CreateNew).unwrap();
    disk.rename(&dir.join("new"), &path).unwrap();
    disk.hard_link(&path, &dir.join("link")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for state in states(&disk) {
        let entries = state.read_dir(dir).unwrap();
        let names = entries.iter().map(|e| format!("{}:{}", e.name, e.len)).collect::<Vec<_>>();
        seen.insert(names.join(" "));
    }
    let all: Vec<&str> = seen.iter().map(String::as_str).collect();
    assert_eq!(
        all,
        [
            "file:0",
            "file:0 link:0",
            "file:2048",
            "file:2048 link:0",
            "file:2048 link:0 new:0",
            "file:2048 new:0"
        ]
    );
    disk.sync_dir(dir).unwrap();
    assert_eq!(states(&disk).len(), 1);
}

#[test]
fn what_a_directory_held_is_lost_with_the_directory() {
    let disk = Disk::new();
    let dir = Path::new("/dir/sub");
    disk.create_dir_all(dir).unwrap();
    disk.open(&dir.join("file"), Open::CreateNew).unwrap().sync_all().unwrap();
    disk.sync_dir(dir).unwrap();
    let kinds =
        states(&disk).iter().map(|s| s.metadata(&dir.join("file")).is_ok()).collect::<Vec<_>>();
    assert_eq!(kinds, [false, true]);
}

#[test]
fn the_nth_operation_fails_once_or_from_then_on() {
    for (forever, left) in [(false, 1), (true, 3)] {
        let (disk, path) = disk_with_a_file();
        let file = disk.open(&path, Open::ReadWrite).unwrap();
        disk.set_fault(Fault { trouble: Trouble::Short, nth: 2, forever, seed: 1 });
        let failed: Vec<bool> =
            (0..4_u8).map(|n| file.write_at(&[n + 2; 600], 0).is_err()).collect();
        assert_eq!(failed, [false, true, forever, forever]);
        assert_eq!(disk.clear_fault(), left);
        // The part of a short write is there.
        disk.set_fault(Fault { trouble: Trouble::Short, nth: 1, forever, seed: 3 });
        assert_eq!(file.write_at(&[9; 600], 0).unwrap_err().kind(), ErrorKind::StorageFull);
        let bytes = read_small(&disk, &path, 4096).unwrap();
        let written = bytes.iter().take_while(|byte| **byte == 9).count();
        assert!((1..600).contains(&written), "{written}");
    }
}

#[test]
fn each_trouble_strikes_what_it_concerns() {
    let (disk, path) = disk_with_a_file();
    let file = disk.open(&path, Open::ReadWrite).unwrap();
    let trouble = |trouble| disk.set_fault(Fault { trouble, nth: 1, forever: true, seed: 5 });
    trouble(Trouble::Full);
    assert_eq!(file.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.set_len(9999).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.open(&path, Open::Create).unwrap();
    let new = path.with_file_name("new");
    assert_eq!(disk.open(&new, Open::Create).err().unwrap().kind(), ErrorKind::StorageFull);
    file.sync_data().unwrap();
    trouble(Trouble::Sync);
    file.write_at(b"x", 0).unwrap();
    assert!(file.sync_all().is_err() && disk.sync_dir(Path::new("/dir")).is_err());
    trouble(Trouble::Flip);
    let mut bytes = [0; 64];
    file.read_at(&mut bytes, 1024).unwrap();
    assert_eq!(bytes.iter().map(|byte| (byte ^ 1).count_ones()).sum::<u32>(), 1);
    trouble(Trouble::Io);
    assert!(disk.metadata(&path).is_err() && file.read_at(&mut bytes, 0).is_err());
    trouble(Trouble::Slow);
    file.write_at(b"y", 0).unwrap();
}

#[test]
fn a_trace_shows_the_disk_before_each_sync_with_the_marks_so_far() {
    let (disk, path) = disk_with_a_file();
    let file = disk.open(&path, Open::ReadWrite).unwrap();
    disk.start_trace();
    for n in 0..3_u8 {
        file.write_at(&[10 + n], 0).unwrap();
        disk.mark(u64::from(n) * 2);
        file.sync_data().unwrap();
        disk.mark(u64::from(n) * 2 + 1);
    }
    let trace = disk.take_trace().unwrap();
    assert_eq!(trace.syncs(), 3);
    let mut seen = Vec::new();
    trace.walk(&mut |point| {
        let byte = |lot: &mut Lot| {
            read_small(&point.image.power_cut(lot).0.disk(), &path, 4096).unwrap()[0]
        };
        let bytes = (byte(&mut Lot::Nothing), byte(&mut Lot::All));
        seen.push((point.syncing.map(Path::to_path_buf), bytes, point.marks.len()));
    });
    let at = Some(path.clone());
    assert_eq!(
        seen,
        [
            (at.clone(), (1, 10), 1),
            (at.clone(), (10, 11), 3),
            (at, (11, 12), 5),
            (None, (12, 12), 6)
        ]
    );
}
