# Sourced by the scripts beside it: makes and enters a virtual environment with the package in it.
# Usage: source bin/environment.sh EXTRA      ("" for none)
# PYTHON names the interpreter, DASS_VENV the folder (.venv-VERSION by default).
python="${PYTHON:-python3}"
if ! version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"; then
  echo "cannot run $python: set PYTHON to a Python 3.11 or newer" >&2
  exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "dass_jax needs Python 3.11 or newer; $python is $version: set PYTHON=python3.11" >&2
  exit 1
fi
venv="${DASS_VENV:-.venv-$version}"
target=".${1:+[$1]}"
stamp="$venv/.installed-${1:-run}-$(cat setup.cfg pyproject.toml requirements.txt | cksum | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  echo "Installing dass_jax into $venv (about a minute) ..."
  "$python" -m venv "$venv"
  # what pip says is worth reading only when it fails
  if ! "$venv/bin/python" -m pip install --quiet --editable "$target" >"$venv/install.log" 2>&1; then
    cat "$venv/install.log" >&2
    exit 1
  fi
  touch "$stamp"
fi
# shellcheck disable=SC1091
source "$venv/bin/activate"
