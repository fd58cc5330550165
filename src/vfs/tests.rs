//! What every file system promises, asked of the machine's and of the one in memory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::os::OsFs;
use super::sim::{Disk, Operation};
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
        assert!(fs.free_space(dir).unwrap() > 0);
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
