//! Links the program at a fixed address. Of 42 MB that an idle run takes, 13 are pages which the loader reads and writes to
//! move 280,000 addresses (vtables of DataFusion and its functions), and that takes it 4 ms of 13. Libraries, heap and stack
//! lie at random addresses as before.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
