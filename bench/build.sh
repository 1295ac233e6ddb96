# Sourced by the scripts beside it, from their folder: builds the broker and the harness, before
# anything is measured, as a build beside a measurement spoils it. Sets `peers`, the harness.
# With TOLLGATE_BIN the broker is that binary, and is not built.
: "${CARGO_TARGET_DIR:=${TMPDIR:-/tmp}/peers-target}"
for program in $needs; do
    command -v "$program" >/dev/null ||
        echo "no $program: its rows will be told as failed (Debian package $program)" >&2
done
if [ -z "${TOLLGATE_BIN:-}" ]; then
    cargo build --release --locked --manifest-path ../Cargo.toml -p tollgate-broker \
        --target-dir ../target
fi
cargo build --release --locked --manifest-path peers/Cargo.toml --target-dir "$CARGO_TARGET_DIR"
peers="$CARGO_TARGET_DIR/release/peers"
