#!/usr/bin/env bash
# What `make lint` does: style (ruff), types (basedpyright), who may import whom (import-linter), and the size of the run time.
# All four run even if one complains. Without complaints it prints one line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! { command -v basedpyright && command -v lint-imports; } >/dev/null; then
    echo 'lint: installing basedpyright and import-linter (requirements/lint.txt)'
    python -m pip install -qq --disable-pip-version-check --requirement requirements/lint.txt
fi

failed=()
check() {
    local output
    if ! output=$("${@:2}" 2>&1); then
        printf '%s\n' "$output"
        failed+=("$1")
    fi
}

check style ruff check --quiet --output-format concise .
check types basedpyright
check imports lint-imports
check size python scripts/size.py
if ((${#failed[@]})); then
    printf 'lint: failed: %s\n' "${failed[*]}" >&2
    exit 1
fi
printf 'lint: style, types, imports and size are as they should be (%s)\n' "$(python scripts/size.py | tail -n 1 | xargs)"
