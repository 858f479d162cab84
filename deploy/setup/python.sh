# Picks a Python that the project runs on. Sourced after say.sh; sets PYTHON.
# EC_PYTHON chooses another than the first that fits.

python_fits() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; }
python_makes_venvs() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

PYTHON=
for candidate in ${EC_PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3}; do
    command -v "$candidate" >/dev/null || continue
    python_fits "$candidate" || continue
    [ -n "$PYTHON" ] || PYTHON=$candidate
    if python_makes_venvs "$candidate"; then PYTHON=$candidate; break; fi
done
