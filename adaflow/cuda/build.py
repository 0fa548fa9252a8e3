"""Compile the native kernels once, with ninja, into a cache; later processes find them there.

A library is named after a key (sources, flags, processor; compiler) and after its own content. It takes that name by
one rename when it is complete, so a kill at any moment leaves nothing that passes for a library, and a file that was
cut short or changed is not taken for one. Two processes that build at once are safe: the second waits and takes the
result. Where there is no compiler, a library that any compiler made of the same sources is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adaflow.errors import AdaflowError

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing to lock with
    fcntl = None  # type: ignore[assignment]

Kind = Literal["cpu", "cuda"]

NATIVE = Path(__file__).parent / "native"
PATTERNS: dict[Kind, str] = {"cpu": "*_cpu.cpp", "cuda": "*_cuda.cu"}
NAMES: dict[Kind, str] = {"cpu": "CPU", "cuda": "CUDA"}
SECONDS: dict[Kind, int] = {"cpu": 10, "cuda": 60}
"""About how long a build takes, for the message."""
TIMEOUT = 600.0
"""Seconds after which a build is given up."""
KEPT = 8
"""Libraries of a kind that stay in the cache, the newest."""

MARCH = "-march=native"
CPU_FLAGS = (
    *("-std=c++17", "-O3", MARCH, "-fopenmp", "-fPIC"),
    # The first two change no result, only error flags that nobody reads. Products and sums become fused multiply-adds
    # where the compiler likes; that is settled here, so it is the same for any number of threads.
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
)
CUDA_FLAGS = (
    *("-std=c++17", "-O3", "-Xcompiler", "-fPIC", "--expt-relaxed-constexpr"),
    *("-gencode", "arch=compute_80,code=sm_80", "-gencode", "arch=compute_90,code=sm_90"),
    # Later GPUs compile this one when they load it.
    *("-gencode", "arch=compute_90,code=compute_90"),
)
OLDEST_GPU = (8, 0)
"""Compute capability below which the CUDA library has no code."""

PROCESSOR_FACTS = {
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
}


class BuildError(AdaflowError):
    """Native kernels cannot be built or loaded here.

    Args:
        message: one sentence.
        hint: what to do about it.
        log: all that the compiler wrote.
    """

    def __init__(self, message: str, hint: str = "", log: str = "") -> None:
        super().__init__(message, hint)
        self.log = log


@dataclass(frozen=True)
class Compiler:
    """A compiler that was found: how it is called, and what it says about itself."""

    command: tuple[str, ...]
    version: str


ANY_COMPILER = Compiler((), "")


@dataclass(frozen=True)
class Recipe:
    """All that decides what a library is.

    Args:
        kind: cpu or cuda.
        compiler: what compiles it.
        flags: for compiling and linking.
        sources: name → content, headers too.
    """

    kind: Kind
    compiler: Compiler
    flags: tuple[str, ...]
    sources: dict[str, bytes]

    @property
    def key(self) -> str:
        """Names this recipe on this processor; for any compiler, a pattern of such names."""
        contents = {name: hashlib.sha256(content).hexdigest() for name, content in self.sources.items()}
        where = processor() if self.kind == "cpu" else platform.machine()
        any_compiler = self.compiler == ANY_COMPILER
        compiler = "*" if any_compiler else _short_hash([self.compiler.command, self.compiler.version])
        return f"{_short_hash([contents, self.flags, where])}-{compiler}"

    def find(self, folder: Path) -> Path | None:
        """The library in `folder`, if it is there, whole, and could not have been put there by another user."""
        if is_private(folder):
            for path in sorted(folder.glob(f"{self.kind}-{self.key}-*.so")):
                with suppress(OSError):  # removed meanwhile
                    if is_private(path) and path.stem.rpartition("-")[2] == digest(path):
                        return path
        return None


def _short_hash(parts: list[object]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def build(kind: Kind, timeout: float = TIMEOUT) -> Path:
    """The library of native kernels for CPUs or for CUDA: from the cache, or compiled now.

    Says one line on stderr when it compiles.

    Args:
        kind: cpu or cuda.
        timeout: seconds for the compilation.

    Returns:
        The shared library.

    Raises:
        BuildError: there is no compiler, it fails or takes too long, or the result can be written nowhere.
    """
    missing = None
    try:
        recipe = make_recipe(kind)
    except BuildError as error:
        recipe, missing = make_recipe(kind, ANY_COMPILER), error
    for folder in cache_folders():
        if found := recipe.find(folder):
            return found
    if missing:
        raise missing
    folder = writable_folder()
    try:
        with one_at_a_time(folder / f"{kind}.lock", timeout) as alone:
            if found := recipe.find(folder):
                return found
            if alone:
                clear_away(folder, recipe)
            say(f"building native {NAMES[kind]} kernels, once (about {SECONDS[kind]} s) …")
            return _compile(recipe, folder, timeout)
    except OSError as error:
        raise BuildError(f"{folder} cannot be written: {error.strerror or error}") from error


def say(line: str) -> None:
    """One line on stderr; of several processes the first says it."""
    if os.environ.get("RANK", "0") == "0":
        print(line, file=sys.stderr, flush=True)


def make_recipe(kind: Kind, compiler: Compiler | None = None) -> Recipe:
    """What would be compiled, by this compiler or the one that is found here.

    Raises:
        BuildError: there is no compiler that works.
    """
    if os.name != "posix":
        raise BuildError("native kernels are built on Linux and macOS only")
    files = sorted([*NATIVE.glob("*.h"), *NATIVE.glob(PATTERNS[kind])])
    sources = {path.name: path.read_bytes() for path in files}
    flags = CPU_FLAGS if kind == "cpu" else CUDA_FLAGS
    return Recipe(kind, compiler or find_compiler(kind), flags, sources)


def find_compiler(kind: Kind) -> Compiler:
    """$CXX, g++ or clang++; nvcc of $CUDA_HOME, of $CUDA_PATH, on the PATH or in /usr/local/cuda.

    Raises:
        BuildError: there is none, or it does not run.
    """
    if kind == "cpu":
        wanted = [shlex.split(os.environ.get("CXX", "")), ["g++"], ["clang++"]]
        missing = BuildError("there is no C++ compiler", "Install g++, or name a compiler in $CXX.")
    else:
        homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
        wanted = [*([f"{home}/bin/nvcc"] for home in homes), ["nvcc"], ["/usr/local/cuda/bin/nvcc"]]
        missing = BuildError("there is no nvcc", "Install the CUDA toolkit, or name its folder in $CUDA_HOME.")
    for words in filter(None, wanted):
        if program := shutil.which(words[0]):
            command = (program, *words[1:])
            return Compiler(command, _version(command))
    raise missing


def _version(command: tuple[str, ...]) -> str:
    try:
        code, text = _run([*command, "--version"], None, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} does not run: {error}") from error
    if code != 0:
        raise BuildError(f"{shlex.join(command)} --version fails with code {code}", log=text)
    return text.strip()


def processor() -> str:
    """What `-march=native` depends on."""
    facts = [platform.machine(), platform.processor()]
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
        facts += [line for line in first.splitlines() if line.partition(":")[0].strip() in PROCESSOR_FACTS]
    return "\n".join(facts)


def cache_folders() -> list[Path]:
    """Where libraries are looked for, best first: the user's cache, then a folder of theirs for temporary files."""
    home = os.path.expanduser("~")
    if chosen := os.environ.get("ADAFLOW_CACHE"):
        bases = [Path(chosen).expanduser().absolute()]
    else:
        bases = [Path(os.environ.get("XDG_CACHE_HOME", ""), "adaflow"), Path(home, ".cache", "adaflow")]
    # A relative $XDG_CACHE_HOME counts for nothing, says its standard; a user without a home has a relative one here.
    bases = [base for base in bases if base.is_absolute()][:1]
    return [*((base / "native").resolve() for base in bases), Path(tempfile.gettempdir(), f"adaflow-{os.getuid()}")]


def writable_folder() -> Path:
    """The first folder to keep libraries in that can be written and is private; says so if it is not the usual one.

    Raises:
        BuildError: there is none.
    """
    reasons = []
    for folder in cache_folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            reasons.append(f"{folder} cannot be written ({error.strerror or error})")
            continue
        if is_private(folder):
            if reasons:
                say(f"{reasons[0]}: native kernels are kept in {folder}")
            return folder
        reasons.append(f"others may write to {folder}")
    raise BuildError("; ".join(reasons), "Name a folder of your own in $ADAFLOW_CACHE.")


def is_private(path: Path) -> bool:
    """Whether only this user, or the administrator, could have put there what is in this file or folder."""
    try:
        info = path.lstat()
    except OSError:
        return False
    ours = info.st_uid in (os.getuid(), 0) and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return ours and not stat.S_ISLNK(info.st_mode)


def digest(path: Path) -> str:
    """Names the content of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


@contextmanager
def one_at_a_time(path: Path, patience: float) -> Iterator[bool]:
    """Hold a lock that the system takes from us however we end; yields whether it is held.

    Whoever waits for longer than `patience` seconds, or meets a file system without locks, goes on without it: a
    library still appears by one rename, only the work may be done twice.
    """
    with open(path, "w") as file:
        alone = False
        end = time.monotonic() + patience
        while fcntl is not None and not alone:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            except BlockingIOError:
                if time.monotonic() > end:
                    break
                time.sleep(0.05)
            except OSError:
                break
        yield alone


def clear_away(folder: Path, recipe: Recipe) -> None:
    """Remove what killed builds left, damaged libraries of this recipe, and libraries older than the newest few."""
    for leftover in folder.glob(f".{recipe.kind}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    ages = []
    for path in folder.glob(f"{recipe.kind}-*.so"):
        with suppress(OSError):
            ages.append((path.name.startswith(f"{recipe.kind}-{recipe.key}-"), -path.stat().st_mtime, path))
    for index, (damaged, _, path) in enumerate(sorted(ages)):
        if damaged or index >= KEPT - 1:
            path.unlink(missing_ok=True)


def _compile(recipe: Recipe, folder: Path, timeout: float) -> Path:
    with tempfile.TemporaryDirectory(prefix=f".{recipe.kind}-", dir=folder, ignore_cleanup_errors=True) as name:
        private = Path(name)
        # What is compiled is what the key was made from, even if the sources change meanwhile.
        for source, content in recipe.sources.items():
            (private / source).write_bytes(content)
        _ninja(recipe, recipe.flags, private, timeout)
        library = private / "library.so"
        library.chmod(0o755)
        final = folder / f"{recipe.kind}-{recipe.key}-{digest(library)}.so"
        os.replace(library, final)
    return final


def _ninja(recipe: Recipe, flags: tuple[str, ...], private: Path, timeout: float) -> None:
    """Compile and link all sources in the folder `private` to library.so there."""
    (private / "build.ninja").write_text(ninja_file(recipe, flags), encoding="utf-8")
    try:
        import ninja

        code, log = _run([os.path.join(ninja.BIN_DIR, "ninja")], private, timeout)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{recipe.compiler.command[0]} was not done after {timeout:g} s") from error
    except (ImportError, OSError) as error:
        raise BuildError(f"ninja does not run: {error}", "Install it: pip install ninja.") from error
    if code == 0:
        return
    if MARCH in flags:  # some compilers do not know this processor, and some assemblers not its instructions
        _ninja(recipe, tuple(flag for flag in flags if flag != MARCH), private, timeout)
        say(f"{recipe.compiler.command[0]} cannot build for this processor: native kernels are for any, and slower")
        return
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith(("[", "ninja:"))]
    errors = [line for line in lines if "error" in line.lower() or "No space left" in line]
    raise BuildError(f"{recipe.compiler.command[0]} fails: {(errors or lines or ['no message'])[0][:200]}", log=log)


def ninja_file(recipe: Recipe, flags: tuple[str, ...]) -> str:
    """The build file: each source to an object, all objects to library.so."""
    command = shlex.join([*recipe.compiler.command, *flags]).replace("$", "$$")
    sources = [name for name in recipe.sources if not name.endswith(".h")]
    return "\n".join(
        [
            f"rule compile\n  command = {command} -c $in -o $out",
            f"rule link\n  command = {command} -shared $in -o $out",
            *(f"build {name}.o: compile {name}" for name in sources),
            f"build library.so: link {' '.join(f'{name}.o' for name in sources)}",
            "",
        ]
    )


def _run(command: list[str], folder: Path | None, timeout: float) -> tuple[int, str]:
    """Run a program to its end; when time is up or we are interrupted, nothing of it goes on.

    Returns:
        Its exit code, and what it wrote.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it took too long.
    """
    english = os.environ | {"LC_ALL": "C"}  # "error" is looked for in what compilers say
    with subprocess.Popen(
        command, cwd=folder, env=english, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            text, _ = process.communicate(timeout=timeout)
        except BaseException:
            _end_family(process.pid)
            raise
    return process.returncode, text


def _end_family(pid: int) -> None:
    """End a process and all it started: ninja puts each compiler into a process group of its own."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for member in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGKILL)
