#!/usr/bin/env bash
# Compiles Rust's standard library for a Windows target from the Debian package of its source, because Debian has no
# Windows library for the compiler of /usr/bin. Done once for a compiler version; prints the sysroot to use.
#
#     scripts/windows/std.sh TARGET FOLDER
#
# TARGET is x86_64-pc-windows-gnu or i686-pc-windows-gnu. FOLDER keeps one sysroot for each compiler and target.
# Fails when a package is missing (rustc-web, cargo-web, rust-web-src, MinGW's gcc) or the build fails.
set -euo pipefail

target=$1
mkdir -p "$2"
folder=$(cd -- "$2" && pwd)
compiler=/usr/bin/rustc
key=$({ "$compiler" -vV; echo "$target"; } | sha256sum | cut -c1-16)
sysroot=$folder/std-$target-$key
libraries=$sysroot/lib/rustlib/$target/lib
if [ -e "$sysroot/complete" ]; then
    echo "$sysroot"
    exit
fi

source=$("$compiler" --print sysroot)/lib/rustlib/src/rust/library
[ -e "$source/sysroot/Cargo.toml" ] || { echo "no source of the standard library at $source" >&2; exit 1; }
# A half-made one, and those of other compilers.
rm -rf "$folder/std-$target-"*
mkdir -p "$libraries"
flags="-Zforce-unstable-if-unmarked -Cembed-bitcode=yes --remap-path-prefix=$source=/rustc/std"
case $target in
i686-*)
    # 32 bits need two start-up objects that are compiled apart.
    for object in rsbegin rsend; do
        RUSTC_BOOTSTRAP=1 "$compiler" --target "$target" --emit=obj -o "$libraries/$object.o" "$source/rtstartup/$object.rs"
    done
    flags+=" --sysroot $sysroot"
    ;;
esac
# Nothing of the caller's build may reach this one.
env -u RUSTUP_TOOLCHAIN -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER -u CARGO_BUILD_TARGET \
    PATH="/usr/bin:$PATH" RUSTC="$compiler" RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" \
    CARGO_TARGET_DIR="$sysroot/build" __CARGO_DEFAULT_LIB_METADATA=stablestd \
    CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_PANIC=unwind \
    /usr/bin/cargo build --quiet --release --locked --target "$target" \
    --manifest-path "$source/sysroot/Cargo.toml" --features "panic-unwind backtrace" >&2
cp "$sysroot/build/$target/release/deps/"*.rlib "$libraries/"
rm -rf "$sysroot/build"
touch "$sysroot/complete"
echo "$sysroot"
