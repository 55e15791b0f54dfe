"""What all commands share: flags, one-line errors, the compilation cache.

Nothing here imports JAX before the flags are parsed, so that ``--help`` answers at once.
"""

import os
import pathlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from absl import flags
from ml_collections import config_flags

from dass_jax.errors import UserError

if TYPE_CHECKING:
    from dass_jax.experiment import Experiment
    from dass_jax.workdir import Workdir

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File under configs/; set its fields with --config.a.b=value."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all results of this experiment.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")

_INTERRUPTED = 130


def _fail(program: str, message: object) -> NoReturn:
    line = " ".join(str(message).split())
    sys.stderr.write(f"{program}: error: {line}\n")
    sys.exit(2)


def _explain(error: Exception) -> str:
    """What was wrong with the command line or the configuration file it names."""
    lines = str(error.__cause__ or error).splitlines() or [type(error).__name__]
    if isinstance(error, flags.Error) and len(lines) == 1:
        return lines[0]
    # before the cause, ml_collections puts a trace or a list of attempts
    field = re.fullmatch(r"""["']+(\w+)["']+""", lines[-1])
    return f"--config: {f'there is no field {field[1]!r}' if field else lines[-1]}"


def _print_help(program: str, description: str) -> None:
    own = flags.FLAGS.flags_by_module_dict()
    listed = [flag for name in (sys.argv[0], "dass_jax.cli") for flag in own.get(name, [])]
    print(
        f"{description}\n\nusage: {program} --config=configs/NAME.py --workdir=DIR [--flag=value]\n"
    )
    for flag in listed:
        print(f"  --{flag.name:<14}{flag.help}")
    print("\nA stopped command goes on where it was when it is run again.")


def _parse(program: str, description: str) -> "tuple[Experiment, Workdir]":
    """Parses the command line and checks the configuration."""
    try:
        rest = flags.FLAGS(sys.argv)
        if _CONFIG.value is not None:
            _CONFIG.value.lock()  # a file that could not be read fails when it is first used
    except Exception as error:
        # a configuration file is a program: it and its overrides fail in any way
        if "--debug" in sys.argv:
            raise
        _fail(program, _explain(error))
    if len(rest) > 1:
        _fail(program, f"unexpected argument {rest[1]!r}: see {program} --help")
    for flag in (_CONFIG, _WORKDIR):
        if not flag.value:
            _fail(program, f"--{flag.name} is missing: see {program} --help")
    from dass_jax import experiment
    from dass_jax.workdir import Workdir

    return experiment.from_config(_CONFIG.value), Workdir(pathlib.Path(_WORKDIR.value))


def _set_up_jax() -> None:
    """Keeps compiled functions between commands, and third parties' chatter out of the output."""
    import jax
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    # float32 means float32, also where the hardware would round to TF32 or bfloat16 by itself
    jax.config.update("jax_default_matmul_precision", "float32")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache / "dass_jax" / "compiled"))


def run(main: "Callable[[Experiment, Workdir], None]", description: str) -> None:
    """Runs a command: parses flags, calls ``main``, turns expected errors into one line.

    Args:
      main: What the command does.
      description: Its help text.
    """
    program = pathlib.Path(sys.argv[0]).name
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(sys.argv[1:]):
        _print_help(program, description)
        return
    try:
        experiment, workdir = _parse(program, description)
        _set_up_jax()
        main(experiment, workdir)
    except (UserError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        _fail(program, error)
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted; run the same command again to go on\n")
        sys.exit(_INTERRUPTED)
