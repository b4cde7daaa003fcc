//! Linux's FPGA managers: which there are, what they say, and whether they can be asked to load.
//!
//! ```text
//!   /sys/class/fpga_manager/fpga0/
//!     name       "Lattice iCE40 FPGA Manager"
//!     state      "operating", "unknown", "write error", …
//!     status     of the last load
//!     flags      vendor kernels only; 0 is a whole configuration, 1 a partial one
//!     firmware   vendor kernels only; takes the name of a file below /lib/firmware
//! ```
//!
//! Mainline lets this be read and not written: there, a driver or a device tree overlay loads.
//! Kernels of Xilinx add the two files at the end. So it is probed, and a manager that cannot be
//! asked says so. The kernel reads the file by itself: check it first with
//! [`crate::bitstream`], and let nobody else write to `/lib/firmware`.
//!
//! Source: Linux, `Documentation/ABI/testing/sysfs-class-fpga-manager`. Tried on folders of
//! files, never on hardware.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

const CLASS: &str = "sys/class/fpga_manager";
/// What `state` says once a design runs.
const OPERATING: &str = "operating";
/// What `flags` takes for a whole configuration.
const WHOLE: &str = "0";

/// A manager that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FpgaManager {
    folder: PathBuf,
    /// What its driver calls it.
    pub name: String,
    /// Whether it takes the name of a file.
    pub way: Way,
}

/// How a manager can be made to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the name of a file below `/lib/firmware`.
    Firmware,
    /// Not from here: it can only be read.
    ReadOnly,
}

/// Why a manager did not load.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Mainline's manager.
    #[error("{name} takes no file from user space; load by its driver or by a device tree overlay")]
    ReadOnly {
        /// The manager.
        name: String,
    },
    /// Not the name of a file below `/lib/firmware`.
    #[error("{0:?} is no file name; give the name of a file that lies in /lib/firmware, without a folder")]
    Name(String),
    /// The kernel refused, or a file of the manager is gone.
    #[error("{} failed: {source}; see what the kernel's log says of it", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// The kernel took the name, and the part does not run.
    #[error("the state is {0:?} after loading, not {OPERATING:?}; see what the kernel's log says of it")]
    State(String),
}

/// The managers below `root`, which is `/` but for tests, in the order of their names; none on a
/// kernel without any.
///
/// # Errors
///
/// [`Fault::File`] when a manager is there and cannot be read.
pub fn probe(root: &Path) -> Result<Vec<FpgaManager>, Fault> {
    let class = root.join(CLASS);
    let entries = match fs::read_dir(&class) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at(&class))?,
    };
    let folders = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut folders = folders.map_err(at(&class))?;
    folders.sort();
    folders.into_iter().map(FpgaManager::open).collect()
}

impl FpgaManager {
    fn open(folder: PathBuf) -> Result<Self, Fault> {
        let name = read(&folder.join("name"))?;
        let way = if is_writable(&folder.join("firmware")) { Way::Firmware } else { Way::ReadOnly };
        Ok(Self { folder, name, way })
    }

    /// What it says of the part now.
    ///
    /// # Errors
    ///
    /// [`Fault::File`] when it says nothing.
    pub fn state(&self) -> Result<String, Fault> {
        read(&self.folder.join("state"))
    }

    /// Asks it to load a file of `/lib/firmware`, whole, and returns once a design runs.
    ///
    /// # Errors
    ///
    /// [`Fault`], which says what to look at.
    pub fn load(&self, firmware: &str) -> Result<(), Fault> {
        if self.way == Way::ReadOnly {
            return Err(Fault::ReadOnly { name: self.name.clone() });
        }
        if Path::new(firmware).file_name() != Some(firmware.as_ref()) || firmware.contains(char::is_control) {
            return Err(Fault::Name(firmware.to_string()));
        }
        let flags = self.folder.join("flags");
        if is_writable(&flags) {
            fs::write(&flags, WHOLE).map_err(at(&flags))?;
        }
        let file = self.folder.join("firmware");
        fs::write(&file, firmware).map_err(at(&file))?;
        match self.state()? {
            state if state == OPERATING => Ok(()),
            state => Err(Fault::State(state)),
        }
    }
}

fn read(path: &Path) -> Result<String, Fault> {
    Ok(fs::read_to_string(path).map_err(at(path))?.trim_end().to_string())
}

/// By its mode: root may open what sysfs then refuses to write.
fn is_writable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && !metadata.permissions().readonly())
}

fn at(path: &Path) -> impl Fn(io::Error) -> Fault {
    move |source| Fault::File { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// A folder of files like a manager's, each with its mode.
    fn root(files: &[(&str, &str, u32)]) -> TempDir {
        let root = TempDir::new().unwrap();
        let folder = root.path().join(CLASS).join("fpga0");
        fs::create_dir_all(&folder).unwrap();
        for (name, text, mode) in files {
            fs::write(folder.join(name), text).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(*mode)).unwrap();
        }
        root
    }

    fn vendor(state: &str) -> TempDir {
        let name = ("name", "Xilinx Zynq FPGA Manager\n", 0o444);
        root(&[name, ("state", state, 0o444), ("flags", "1\n", 0o644), ("firmware", "", 0o600)])
    }

    #[test]
    fn a_kernel_without_managers_has_none() {
        let root = TempDir::new().unwrap();
        assert_eq!(probe(root.path()).unwrap(), []);
    }

    #[test]
    fn mainline_is_read_and_not_asked_to_load() {
        let name = ("name", "Lattice iCE40 FPGA Manager\n", 0o444);
        for more in [&[][..], &[("firmware", "", 0o444)]] {
            let root = root(&[&[name, ("state", "unknown\n", 0o444)], more].concat());
            let [manager] = &probe(root.path()).unwrap()[..] else { panic!("one manager") };
            assert_eq!((&manager.name[..], manager.way), ("Lattice iCE40 FPGA Manager", Way::ReadOnly));
            assert_eq!(manager.state().unwrap(), "unknown");
            assert!(matches!(manager.load("blinky.bin"), Err(Fault::ReadOnly { .. })));
        }
    }

    #[test]
    fn a_vendor_kernel_is_given_the_name_and_asked_for_its_state() {
        let root = vendor("operating\n");
        let manager = probe(root.path()).unwrap().remove(0);
        assert_eq!(manager.way, Way::Firmware);
        manager.load("blinky.bin").unwrap();
        assert_eq!(fs::read_to_string(manager.folder.join("flags")).unwrap(), "0");
        assert_eq!(fs::read_to_string(manager.folder.join("firmware")).unwrap(), "blinky.bin");
    }

    #[test]
    fn a_part_that_does_not_run_afterwards_is_a_fault() {
        let root = vendor("write error\n");
        let manager = probe(root.path()).unwrap().remove(0);
        assert!(matches!(manager.load("blinky.bin"), Err(Fault::State(state)) if state == "write error"));
    }

    #[test]
    fn only_names_of_files_are_given_on() {
        let root = vendor("operating\n");
        let manager = probe(root.path()).unwrap().remove(0);
        for name in ["", ".", "..", "/etc/passwd", "../x", "a/b", "a/", "a\nb", "a\0"] {
            assert!(matches!(manager.load(name), Err(Fault::Name(_))), "{name:?}");
        }
        assert_eq!(fs::read_to_string(manager.folder.join("firmware")).unwrap(), "");
    }

    #[test]
    fn a_manager_without_its_files_is_a_fault() {
        let root = root(&[]);
        assert!(matches!(probe(root.path()), Err(Fault::File { path, .. }) if path.ends_with("fpga0/name")));
    }
}
