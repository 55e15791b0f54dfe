"""What all commands share: flags, one-line errors, the compilation cache.

Nothing here imports JAX before the flags are parsed, so that ``--help`` answers at once.
"""

import pathlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from absl import flags
from ml_collections import config_flags

from dass_jax.errors import UserError
from dass_jax.runtime import set_up_jax

if TYPE_CHECKING:
    from dass_jax.experiment import Experiment
    from dass_jax.workdir import Workdir

_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")

_INTERRUPTED = 130

# How ml_collections tells that there is no such field, and that a value is of another type.
_NO_FIELD = re.compile(
    r"""["'\\]+(\w+)["'\\]+(?:\\nDid you mean "(\w+)" instead of "\w+"\?["']*)?"""
)
_OTHER_TYPE = re.compile(
    r"override field '(\w+)'.*?\. (.*) is of original type .* casted to type <class '(\w+)'>"
)
# What a configuration file has to give.
_CONFIG = "what dass_jax.experiment.default_config() returns, with changes"


def _program() -> str:
    return pathlib.Path(sys.argv[0]).name


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
    last = lines[-1]
    if field := _NO_FIELD.fullmatch(last):
        meant = f": did you mean {field[2]!r}?" if field[2] else ""
        return f"--config: there is no field {field[1]!r}{meant}"
    if value := _OTHER_TYPE.search(last):
        return f"--config: the field {value[1]!r} is {value[2]!r}: give a value of type {value[3]}"
    if last == "module 'config_config' has no attribute 'get_config'":
        return f"--config: the file must define get_config(), to return {_CONFIG}"
    return f"--config: {last}"


def _print_help(program: str, description: str, usage: str) -> None:
    own = flags.FLAGS.flags_by_module_dict()
    listed = [flag for name in (sys.argv[0], "dass_jax.cli") for flag in own.get(name, [])]
    print(f"{description}\n\nusage: {program} {usage} [--flag=value]\n")
    for flag in listed:
        print(f"  --{flag.name:<22}{flag.help}")


def run(main: "Callable[[Experiment, Workdir], None]", description: str) -> None:
    """Runs a command on an experiment: parses its flags, calls ``main``.

    Args:
      main: What the command does.
      description: Its help text.
    """
    config_flag = config_flags.DEFINE_config_file(
        "config", None, "File under configs/; set its fields with --config.a.b=value."
    )
    workdir_flag = flags.DEFINE_string("workdir", None, "Folder of all results of this experiment.")

    def check_config() -> None:
        if config_flag.value is not None:
            # a file that cannot be read fails when it is first used
            lock = getattr(config_flag.value, "lock", None)
            if lock is None:
                raise TypeError(f"get_config() must return {_CONFIG}")
            lock()

    def call(arguments: list[str]) -> None:
        if arguments:
            raise UserError(f"unexpected argument {arguments[0]!r}: see {_program()} --help")
        for flag in (config_flag, workdir_flag):
            if not flag.value:
                raise UserError(f"--{flag.name} is missing: see {_program()} --help")
        from dass_jax import experiment
        from dass_jax.locks import only_process
        from dass_jax.workdir import Workdir

        settings = experiment.from_config(config_flag.value)
        set_up_jax()
        workdir = Workdir(pathlib.Path(str(workdir_flag.value)).expanduser())
        with only_process(workdir.root):
            main(settings, workdir)

    resumable = f"{description}\n\nA stopped command goes on where it was when it is run again."
    run_plain(call, resumable, "--config=configs/NAME.py --workdir=DIR", check_config)


def run_plain(
    main: Callable[[list[str]], None],
    description: str,
    usage: str,
    check_flags: Callable[[], None] = lambda: None,
) -> None:
    """Runs a command: parses flags, calls ``main``, turns expected errors into one line.

    Args:
      main: What the command does with the arguments that are no flags.
      description: Its help text.
      usage: Its arguments, for the help.
      check_flags: Called after parsing; may fail in any way that a mistake of the user causes.
    """
    program = _program()
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(sys.argv[1:]):
        _print_help(program, description, usage)
        return
    try:
        arguments = flags.FLAGS(sys.argv)[1:]
        check_flags()
    except Exception as error:
        # a configuration file is a program: it and its overrides fail in any way
        if "--debug" in sys.argv:
            raise
        _fail(program, _explain(error))
    from dass_jax.stopping import StoppedError, stop_on_signals

    try:
        with stop_on_signals():
            main(arguments)
    except StoppedError as stopped:
        sys.stderr.write(f"{program}: stopped by {stopped}; run the same command again to go on\n")
        sys.exit(128 + stopped.number)
    except (UserError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        _fail(program, error)
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted; run the same command again to go on\n")
        sys.exit(_INTERRUPTED)
