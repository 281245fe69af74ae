# What must pass before a change goes in.
check:
    .ci/run

test:
    cargo test --workspace

# The goldens say what an independent PyTorch model computes (torch 2.5.1, safetensors).
golden:
    python3 reference/make_golden.py --check crates/ringsmith-model/tests/golden
    cargo test -p ringsmith-model --test golden

# One training step of each preset; then whole processes against a PyTorch script.
bench:
    cargo bench -p ringsmith-model --bench step

bench-torch baseline="../shared/peers/torch_train_bench.py":
    python3 bench/train.py --baseline {{baseline}}

# Licences and advisories of the dependencies (cargo install cargo-deny).
deny:
    cargo deny check

tiny:
    cargo run --release -- run recipes/tiny.toml

# The picture in the README, from a store with one finished report.
picture store="store":
    chromium --headless --no-sandbox --hide-scrollbars --window-size=1000,1275 --screenshot=docs/report.png "file://$(realpath {{store}}/report/*/report.html)"
