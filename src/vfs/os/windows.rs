//! Windows' file system.
//!
//! - **Durability**: a sync is FlushFileBuffers, for data as for all else. NtFlushBuffersFileEx could leave the metadata
//!   out, but the length of valid data is metadata: a preallocated segment would read as zeros after a
//!   power cut where acknowledged bytes were. A file must be open for writing to be flushed.
//! - **Names**: a rename is MoveFileExW, written through, and the renamed file is flushed after it. A directory is
//!   flushed as a best effort: the system documents no such thing, and a refusal is no error.
//! - **Strangers** (virus scanners, backups) hold files for moments without sharing them: a sharing violation or a
//!   denial of access is tried ten times with growing pauses, a third of a second in all. Our own files are open for
//!   all sharing, also for deletion.
//! - **Access**: whatever is made here, file or directory, gets a list of its own that inherits nothing: all rights for the
//!   process's user, SYSTEM and the Administrators, nobody else. What exists keeps its list. SYSTEM and Administrators can
//!   take ownership of any file, so shutting them out would hide nothing from them and break backups.
//! - **Locks** are mandatory here, so one byte far beyond the end of the lock file is locked, and its text stays readable.
//! - **Space** is reserved by setting the allocation, and then the length.
//! - **Paths** longer than 247 characters get the prefix that lifts the limit of 260.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::mem;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, ERROR_CALL_NOT_IMPLEMENTED, ERROR_HANDLE_EOF,
    ERROR_INVALID_FUNCTION, ERROR_INVALID_HANDLE, ERROR_INVALID_PARAMETER, ERROR_IO_PENDING,
    ERROR_LOCK_VIOLATION, ERROR_NOT_SUPPORTED, ERROR_SHARING_VIOLATION, GENERIC_READ,
    GENERIC_WRITE, HANDLE, INVALID_HANDLE_VALUE, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, FILE_ALLOCATION_INFO, FILE_ATTRIBUTE_NORMAL,
    FILE_FLAG_BACKUP_SEMANTICS, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
    FileAllocationInfo, GetDiskFreeSpaceExW, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY,
    LockFileEx, MOVEFILE_REPLACE_EXISTING, MOVEFILE_WRITE_THROUGH, MoveFileExW, OPEN_ALWAYS,
    OPEN_EXISTING, SetFileInformationByHandle,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use crate::vfs::{Open, Space};

const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// Tries of a call that a virus scanner or a backup program stands in the way of.
const TRIES: u32 = 10;

/// Longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Characters of a path, its NUL not counted, that every call takes as it is; a directory's limit is 12 below a file's.
const SHORT_PATH: usize = 247;

/// A system call's answer, where 0 is a failure.
fn done(answer: i32) -> io::Result<()> {
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The system's number of an error.
fn code(error: &io::Error) -> Option<u32> {
    error.raw_os_error().and_then(|code| u32::try_from(code).ok())
}

pub fn open(path: &Path, how: Open) -> io::Result<fs::File> {
    let (access, disposition) = match how {
        Open::Read => (GENERIC_READ, OPEN_EXISTING),
        Open::ReadWrite => (GENERIC_READ | GENERIC_WRITE, OPEN_EXISTING),
        Open::Create => (GENERIC_READ | GENERIC_WRITE, OPEN_ALWAYS),
        Open::CreateNew => (GENERIC_READ | GENERIC_WRITE, CREATE_NEW),
    };
    let path = wide(path)?;
    let attributes = for_owner_only()?;
    // SAFETY: the path is NUL-terminated UTF-16 that lives across the call, as the attributes do; no template.
    let handle = unsafe {
        CreateFileW(
            path.as_ptr(),
            access,
            SHARE_ALL,
            &raw const attributes,
            disposition,
            FILE_ATTRIBUTE_NORMAL,
            ptr::null_mut(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: an open handle that nobody else has.
    Ok(unsafe { fs::File::from_raw_handle(handle) })
}

pub fn create_dir_all(path: &Path) -> io::Result<()> {
    match create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => create_dir_all(parent)?,
        _ => return Err(io::ErrorKind::NotFound.into()),
    }
    create_dir(path)
}

/// Makes one directory; one that is there is well.
fn create_dir(path: &Path) -> io::Result<()> {
    let wide = wide(path)?;
    let attributes = for_owner_only()?;
    // SAFETY: both pointers live across the call, the path is NUL-terminated.
    match done(unsafe { CreateDirectoryW(wide.as_ptr(), &raw const attributes) }) {
        // Roots and directories that nobody may write into answer other codes than this when they exist.
        Err(e)
            if code(&e) != Some(ERROR_ALREADY_EXISTS)
                && e.kind() != io::ErrorKind::PermissionDenied =>
        {
            Err(e)
        }
        Err(e) => match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            _ => Err(e),
        },
        Ok(()) => Ok(()),
    }
}

/// The access list of what is made here.
fn for_owner_only() -> io::Result<SECURITY_ATTRIBUTES> {
    /// Made once, never changed, freed with the process.
    static DESCRIPTOR: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

    let mut descriptor = DESCRIPTOR.load(Ordering::Acquire);
    if descriptor.is_null() {
        let made = make_descriptor()?;
        let order = (Ordering::AcqRel, Ordering::Acquire);
        descriptor = match DESCRIPTOR.compare_exchange(ptr::null_mut(), made, order.0, order.1) {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: the system made it with LocalAlloc, and nobody else has it.
                unsafe { LocalFree(made) };
                other
            }
        };
    }
    Ok(SECURITY_ATTRIBUTES {
        nLength: size_of_u32::<SECURITY_ATTRIBUTES>(),
        lpSecurityDescriptor: descriptor,
        bInheritHandle: 0,
    })
}

/// A descriptor with the list that the page above tells of, from LocalAlloc.
fn make_descriptor() -> io::Result<*mut c_void> {
    // P: inherits nothing; OICI: files and directories inside inherit it; FA: all rights; SY, BA: SYSTEM, Administrators.
    let user = user()?;
    let text = format!("D:P(A;OICI;FA;;;{user})(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)");
    let text: Vec<u16> = text.encode_utf16().chain([0]).collect();
    let mut descriptor = ptr::null_mut();
    // SAFETY: the text is NUL-terminated, the place for the answer lives across the call, its size is not asked for.
    done(unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            ptr::null_mut(),
        )
    })?;
    Ok(descriptor)
}

/// The identifier of the process's user, as S-1-...
fn user() -> io::Result<String> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the process's own pseudo-handle; the place for the answer lives across the call.
    done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) })?;
    // SAFETY: an open handle that nobody else has.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    // A TOKEN_USER and, behind it, an identifier of at most 68 bytes; u64 for the alignment.
    let mut buffer = [0_u64; 32];
    let mut written = 0;
    // SAFETY: the buffer is as long as is said, aligned for TOKEN_USER, and lives across the call.
    done(unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            buffer.as_mut_ptr().cast(),
            size_of_u32::<[u64; 32]>(),
            &raw mut written,
        )
    })?;
    let mut text = ptr::null_mut();
    // SAFETY: the call above has written a TOKEN_USER there, whose identifier points into the same buffer.
    done(unsafe {
        let user: *const TOKEN_USER = buffer.as_ptr().cast();
        ConvertSidToStringSidW((*user).User.Sid, &raw mut text)
    })?;
    let mut units = Vec::new();
    // SAFETY: the text is NUL-terminated and read no further; it is freed once, as the call asks.
    unsafe {
        let mut next = text;
        while *next != 0 {
            units.push(*next);
            next = next.add(1);
        }
        LocalFree(text.cast());
    }
    Ok(String::from_utf16_lossy(&units))
}

fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or_default()
}

/// Calls again while a stranger is in the way.
pub fn retrying<T>(call: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut pause = Duration::from_millis(1);
    for _ in 1..TRIES {
        match call() {
            Err(e) if is_passing(&e) => std::thread::sleep(pause),
            other => return other,
        }
        pause = (pause * 2).min(PAUSE);
    }
    call()
}

/// Whether the error may be a stranger's doing.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        code(error),
        Some(ERROR_ACCESS_DENIED | ERROR_SHARING_VIOLATION | ERROR_LOCK_VIOLATION)
    )
}

/// The path as the system takes it: absolute, NUL-terminated, with the prefix that long ones need.
fn wide(path: &Path) -> io::Result<Vec<u16>> {
    const VERBATIM: &str = r"\\?\";
    const SHARE: &str = r"\\?\UNC\";
    let [backslash, colon] = [b'\\', b':'].map(u16::from);

    let absolute = std::path::absolute(path)?;
    let mut wide: Vec<u16> = absolute.as_os_str().encode_wide().collect();
    if wide.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has a NUL in it"));
    }
    if wide.len() > SHORT_PATH {
        // `C:\...`, or `\\server\share\...`; the third form, `\\?\...` and `\\.\...`, has what it needs.
        let (prefix, from) = match wide.as_slice() {
            [_, second, third, ..] if *second == colon && *third == backslash => (VERBATIM, 0),
            [first, second, third, ..]
                if *first == backslash
                    && *second == backslash
                    && ![b'?', b'.'].map(u16::from).contains(third) =>
            {
                (SHARE, 2)
            }
            _ => ("", 0),
        };
        wide.splice(..from, prefix.encode_utf16());
    }
    wide.push(0);
    Ok(wide)
}

pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    // Open across the rename, which sharing for deletion allows, so that nobody can come between.
    let file = open(from, Open::ReadWrite)?;
    let (from, to) = (wide(from)?, wide(to)?);
    let flags = MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH;
    // SAFETY: both pointers are to NUL-terminated UTF-16 that lives across the call.
    done(unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), flags) })?;
    file.sync_all()
}

pub fn sync_dir(path: &Path) -> io::Result<()> {
    let directory = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .share_mode(SHARE_ALL)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(path);
    match directory.and_then(|directory| directory.sync_all()) {
        Err(e) if is_refusal(&e) => Ok(()),
        other => other,
    }
}

/// Whether the system says that it does no such thing here. A device's error is none.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        code(error),
        Some(
            ERROR_ACCESS_DENIED
                | ERROR_SHARING_VIOLATION
                | ERROR_INVALID_FUNCTION
                | ERROR_INVALID_HANDLE
                | ERROR_INVALID_PARAMETER
                | ERROR_NOT_SUPPORTED
                | ERROR_CALL_NOT_IMPLEMENTED
        )
    )
}

pub fn try_lock(file: &fs::File) -> io::Result<bool> {
    // SAFETY: OVERLAPPED is plain data for which all zeros is valid.
    let mut overlapped: OVERLAPPED = unsafe { mem::zeroed() };
    overlapped.Anonymous.Anonymous.OffsetHigh = 0x4000_0000;
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the handle is open, the structure lives across the call, which does not pend on a
    // handle opened without FILE_FLAG_OVERLAPPED.
    match done(unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut overlapped) }) {
        Ok(()) => Ok(true),
        Err(e) if matches!(code(&e), Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING)) => Ok(false),
        Err(e) => Err(e),
    }
}

pub fn space(path: &Path) -> io::Result<Space> {
    let path = wide(path)?;
    let (mut free, mut total) = (0_u64, 0_u64);
    let none = ptr::null_mut();
    // SAFETY: the path is NUL-terminated, the first two results live across the call, the third may be NULL.
    done(unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &raw mut free, &raw mut total, none) })?;
    Ok(Space { free, total })
}

pub fn read_at(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.seek_read(buffer, offset) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Reading at the end is no error here.
            Err(e) if code(&e) == Some(ERROR_HANDLE_EOF) => return Ok(0),
            other => return other,
        }
    }
}

pub fn write_all_at(file: &fs::File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset = offset.saturating_add(n as u64);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

pub fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
    // An allocation below the length would cut the file.
    if file.metadata()?.len() >= len {
        return Ok(());
    }
    let size = i64::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let allocation = FILE_ALLOCATION_INFO { AllocationSize: size };
    // SAFETY: the handle is open, the structure is of the class's type and lives across the call.
    let reserved = done(unsafe {
        SetFileInformationByHandle(
            file.as_raw_handle(),
            FileAllocationInfo,
            (&raw const allocation).cast(),
            size_of_u32::<FILE_ALLOCATION_INFO>(),
        )
    });
    match reserved {
        // A file system that reserves nothing has the length at least.
        Err(e) if !is_refusal(&e) => Err(e),
        _ => file.set_len(len),
    }
}
