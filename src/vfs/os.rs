//! The machine's file system.

pub struct OsFs;
impl OsFs {
    pub fn new() -> OsFs {
        OsFs
    }
}
impl super::Fs for OsFs {
    fn open(
        &self,
        _: &std::path::Path,
        _: super::Open,
    ) -> std::io::Result<std::sync::Arc<dyn super::File>> {
        todo!()
    }
    fn create_dir_all(&self, _: &std::path::Path) -> std::io::Result<()> {
        todo!()
    }
    fn read_dir(&self, _: &std::path::Path) -> std::io::Result<Vec<super::Entry>> {
        todo!()
    }
    fn metadata(&self, _: &std::path::Path) -> std::io::Result<super::Entry> {
        todo!()
    }
    fn rename(&self, _: &std::path::Path, _: &std::path::Path) -> std::io::Result<()> {
        todo!()
    }
    fn hard_link(&self, _: &std::path::Path, _: &std::path::Path) -> std::io::Result<()> {
        todo!()
    }
    fn remove_file(&self, _: &std::path::Path) -> std::io::Result<()> {
        todo!()
    }
    fn remove_dir(&self, _: &std::path::Path) -> std::io::Result<()> {
        todo!()
    }
    fn sync_dir(&self, _: &std::path::Path) -> std::io::Result<()> {
        todo!()
    }
    fn try_lock(&self, _: &std::path::Path) -> std::io::Result<Option<Box<dyn super::Lock>>> {
        todo!()
    }
    fn free_space(&self, _: &std::path::Path) -> std::io::Result<u64> {
        todo!()
    }
}
