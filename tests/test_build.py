"""Native kernels: built once, in spite of everything, and never taken from where others could have put them."""

import ctypes
import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaflow.cuda import build as builder
from adaflow.cuda import library
from adaflow.cuda.build import BuildError, build, cache_folders, make_recipe, one_at_a_time
from adaflow.errors import UsageError

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
PROBE = (builder.NATIVE / "probe_cpu.cpp").read_text(encoding="utf-8")
BROKEN = 'extern "C" int adaflow_broken() { return missing; }\n'
REFUSES = 'extern "C" int adaflow_refuses(double, long, long) { return 7; }\n'

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Few sources, an empty cache, a process that has loaded nothing. Holds native/, cache/, home/ and tmp/."""
    for name in ("native", "home", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "native" / "common.h").write_bytes((builder.NATIVE / "common.h").read_bytes())
    (tmp_path / "native" / "probe_cpu.cpp").write_text(PROBE)
    monkeypatch.setattr(builder, "NATIVE", tmp_path / "native")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ADAFLOW_CACHE", str(tmp_path / "cache"))
    for name in ("ADAFLOW_OPS", "CXX", "RANK", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(library, "_libraries", {})
    monkeypatch.setattr(library, "_chosen", {})
    return tmp_path


@pytest.fixture
def compiler(here, monkeypatch):
    """Puts a shell script in front of g++: `compiler('sleep 1')`. "$CALLS" is a file to write to, `real` goes on."""

    def install(script):
        file = here / "compiler"
        file.write_text(
            f"#!/bin/sh\nCALLS={here}/calls\n"
            f'real() {{ exec {shutil.which("g++")} "$@"; }}\n'
            f'if [ "$1" = --version ]; then echo one; exit; fi\n{script}\nreal "$@"\n'
        )
        file.chmod(0o755)
        monkeypatch.setenv("CXX", str(file))
        return here / "calls"

    return install


def cached(here):
    """The libraries in the cache."""
    return sorted((here / "cache" / "native").glob("*.so"))


def works(path):
    out = (ctypes.c_float * 5)()
    assert ctypes.CDLL(str(path)).adaflow_probe_f32(out, ctypes.c_int64(5), ctypes.c_int64(2)) == 0
    return list(out) == [0, 1, 2, 3, 4]


@needs_gxx
def test_built_once_and_found_again(here, compiler, capfd):
    calls = compiler('echo call >> "$CALLS"')
    first = build("cpu")
    assert works(first)
    assert first.parent == here / "cache" / "native"
    assert capfd.readouterr().err == "building native CPU kernels, once (about 10 s) …\n"
    assert calls.read_text().count("call") == 2  # one source, one link
    assert build("cpu") == first
    assert calls.read_text().count("call") == 2
    assert capfd.readouterr().err == ""
    assert [path.name for path in (here / "cache" / "native").iterdir() if path != first] == ["cpu.lock"]


@needs_gxx
def test_key_depends_on_all_that_decides_the_result(here, monkeypatch):
    recipe = make_recipe("cpu")
    assert recipe.key == make_recipe("cpu").key
    others = [
        replace(recipe, flags=(*recipe.flags, "-g")),
        replace(recipe, compiler=replace(recipe.compiler, version="another")),
        replace(recipe, compiler=replace(recipe.compiler, command=("/opt/g++",))),
    ]
    for name in ("probe_cpu.cpp", "common.h"):
        others.append(replace(recipe, sources=recipe.sources | {name: recipe.sources[name] + b"\n"}))
    (here / "native" / "new_cpu.cpp").write_text("")
    others.append(make_recipe("cpu"))
    keys = {recipe.key, *(other.key for other in others)}
    monkeypatch.setattr(builder, "processor", lambda: "another")
    assert len(keys | {recipe.key}) == len(others) + 2


def test_processor_is_described_without_what_changes():
    assert builder.processor() == builder.processor()
    assert "MHz" not in builder.processor()
    if Path("/proc/cpuinfo").exists():
        assert re.search(r"flags|Features", builder.processor())


def test_no_compiler(here, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(BuildError, match="there is no C\\+\\+ compiler"):
        build("cpu")
    assert library.native(CPU) is None
    assert library.native(CPU) is None
    assert capfd.readouterr().err == (
        "no native CPU kernels, so the slower reference path is taken: there is no C++ compiler\n"
    )


@needs_gxx
def test_library_built_elsewhere_is_taken_where_there_is_no_compiler(here, monkeypatch):
    path = build("cpu")
    monkeypatch.setenv("PATH", str(here))
    assert build("cpu") == path
    with monkeypatch.context() as patch:
        patch.setattr(builder, "processor", lambda: "another")
        with pytest.raises(BuildError, match="there is no C\\+\\+ compiler"):
            build("cpu")
    (here / "native" / "common.h").write_text("// changed")
    with pytest.raises(BuildError, match="there is no C\\+\\+ compiler"):
        build("cpu")


def test_kernels_for_gpus_do_not_depend_on_the_processor(here, monkeypatch):
    recipe = builder.make_recipe("cuda", builder.Compiler(("/opt/nvcc",), "13"))
    monkeypatch.setattr(builder, "processor", lambda: "another")
    assert recipe.key == builder.make_recipe("cuda", recipe.compiler).key


def test_no_nvcc(here, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BuildError, match="there is no nvcc"):
        build("cuda")


def test_compiler_that_does_not_run(here, monkeypatch):
    program = here / "compiler"
    program.write_text("#!/bin/sh\necho no licence\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", f"{program} -v")
    with pytest.raises(BuildError, match="compiler -v --version fails with code 3"):
        build("cpu")


@needs_gxx
def test_source_that_does_not_compile(here, capfd):
    (here / "native" / "broken_cpu.cpp").write_text(BROKEN)
    assert library.native(CPU) is None
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert re.search(r"reference path is taken: .*g\+\+ fails: broken_cpu.cpp:1:\d+: error: .missing.", said[1])
    assert [path.name for path in (here / "cache" / "native").iterdir()] == ["cpu.lock"]
    (here / "native" / "broken_cpu.cpp").unlink()
    assert works(build("cpu"))


@needs_gxx
def test_compiler_that_does_not_know_the_processor(compiler, capfd):
    compiler('case "$*" in *-march=native*) echo "error: bad value native"; exit 1;; esac')
    assert works(build("cpu"))
    assert "cannot build for this processor" in capfd.readouterr().err


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone(file):
    """Whether the process ends, within a while, whose id is in a file."""
    pid = int(file.read_text().split()[0])
    end = time.monotonic() + 5
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


def test_compiler_that_hangs(here, compiler):
    calls = compiler('echo $$ > "$CALLS"; sleep 1000')
    with pytest.raises(BuildError, match=r"compiler was not done after 0\.5 s"):
        build("cpu", timeout=0.5)
    assert gone(calls)
    assert [path.name for path in (here / "cache" / "native").iterdir()] == ["cpu.lock"]


def test_interrupt_ends_the_compiler(here, compiler):
    calls = compiler('echo $$ > "$CALLS"; sleep 1000')
    child = in_child(lambda: build("cpu"))
    wait_for(lambda: calls.exists() and calls.read_text())
    os.killpg(child, signal.SIGINT)  # as a terminal does
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert gone(calls)
    assert [path.name for path in (here / "cache" / "native").iterdir()] == ["cpu.lock"]


def test_disk_that_is_full(here, compiler, monkeypatch):
    compiler('echo "cc1plus: fatal error: /tmp/x.s: No space left on device"; exit 1')
    with pytest.raises(BuildError, match="No space left on device"):
        build("cpu")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    compiler('touch "$(echo "$*" | sed "s/.* -o //")"; exit 0')
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BuildError, match=r"cache/native cannot be written: No space left on device"):
        build("cpu")
    assert cached(here) == []


@needs_gxx
def test_cache_that_cannot_be_written(here, monkeypatch, capfd):
    (here / "file").write_text("")
    monkeypatch.setenv("ADAFLOW_CACHE", str(here / "file"))
    path = build("cpu")
    assert path.parent == here / "tmp" / f"adaflow-{os.getuid()}"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    said = capfd.readouterr().err.splitlines()
    assert (
        said[0] == f"{here}/file/native cannot be written (Not a directory): native kernels are kept in {path.parent}"
    )
    assert build("cpu") == path
    assert capfd.readouterr().err == ""


def test_lock_that_cannot_be_opened(here, compiler):
    compiler("exit 1")
    (here / "cache" / "native" / "cpu.lock").mkdir(parents=True, mode=0o700)
    (here / "cache" / "native").chmod(0o700)
    with pytest.raises(BuildError, match="cache/native cannot be written: Is a directory"):
        build("cpu")


def test_nowhere_to_write(here, compiler, monkeypatch):
    compiler("exit 1")
    (here / "file").write_text("")
    monkeypatch.setenv("ADAFLOW_CACHE", str(here / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(here / "file"))
    with pytest.raises(BuildError, match=r"file/native cannot be written .*; .*file/adaflow-\d+ cannot be written"):
        build("cpu")


@needs_gxx
def test_library_in_a_cache_that_cannot_be_written_is_taken(here, monkeypatch):
    path = build("cpu")
    monkeypatch.setattr(builder, "writable_folder", lambda: pytest.fail("nothing need be written"))
    assert build("cpu") == path


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ADAFLOW_CACHE": "/a"}, "/a/native"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/adaflow/native"),
        ({"ADAFLOW_CACHE": "/a", "XDG_CACHE_HOME": "/x"}, "/a/native"),
        ({"ADAFLOW_CACHE": "", "XDG_CACHE_HOME": "x"}, "/h/.cache/adaflow/native"),
        ({}, "/h/.cache/adaflow/native"),
    ],
)
def test_where_the_cache_is(environment, expected, monkeypatch):
    for name in ("ADAFLOW_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/h", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", "/t")
    assert [str(folder) for folder in cache_folders()] == [expected, f"/t/adaflow-{os.getuid()}"]


@needs_gxx
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "one byte"])
def test_damaged_library_is_built_again(damage, here):
    path = build("cpu")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    shutil.copy(path, path.with_stem(f"cpu-{make_recipe('cpu').key}-{'0' * 32}"))  # not what its name says
    path.write_bytes({"truncated": content[:-1], "empty": b"", "garbage": b"x" * 5000, "one byte": content}[damage])
    again = build("cpu")
    assert works(again)
    assert cached(here) == [again]


@needs_gxx
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_others_may_write_to_is_not_taken(what, here):
    path = build("cpu")
    (path if what == "file" else path.parent).chmod(0o777)
    assert make_recipe("cpu").find(path.parent) is None
    again = build("cpu")
    assert works(again)
    assert builder.is_private(again)
    assert builder.is_private(again.parent)


@needs_gxx
def test_what_another_user_owns_is_not_taken(here, monkeypatch):
    path = build("cpu")
    recipe = make_recipe("cpu")
    if os.getuid() == 0:
        os.chown(path, 12345, 12345)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert recipe.find(path.parent) is None


@needs_gxx
def test_link_is_not_taken(here):
    path = build("cpu")
    path.rename(here / "elsewhere")
    path.symlink_to(here / "elsewhere")
    assert make_recipe("cpu").find(path.parent) is None


@needs_gxx
def test_few_old_libraries_are_kept(here, monkeypatch):
    folder = here / "cache" / "native"
    folder.mkdir(parents=True)
    (folder / ".cpu-left").mkdir()
    for age in range(12):
        (folder / f"cpu-old-{age:02}.so").write_text("")
        os.utime(folder / f"cpu-old-{age:02}.so", (1000 - age, 1000 - age))
    (folder / "cuda-old-00.so").write_text("")
    build("cpu")
    assert [path.name[:10] for path in cached(here)][1:] == [*(f"cpu-old-{age:02}" for age in range(7)), "cuda-old-0"]
    assert not (folder / ".cpu-left").exists()


def in_child(function):
    """Run it in a forked process, a group of its own. Returns its id; the exit code says whether it raised."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return pid


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@needs_gxx
def test_two_processes_build_at_once(here, compiler):
    calls = compiler('echo call >> "$CALLS"; sleep 0.1')
    children = [in_child(lambda: build("cpu")) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert calls.read_text().count("call") == 2
    assert len(cached(here)) == 1
    assert works(build("cpu"))


@needs_gxx
def test_killed_at_any_moment(here):
    recipe = make_recipe("cpu")
    folder = here / "cache" / "native"
    began = time.monotonic()
    build("cpu").unlink()
    whole = time.monotonic() - began
    for moment in range(12):
        child = in_child(lambda: build("cpu"))
        time.sleep(whole * moment / 10)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if found := recipe.find(folder):
            assert works(found)
            found.unlink()
        assert cached(here) == []
    assert works(build("cpu"))


def test_lock_that_a_killed_process_left_is_none(tmp_path):
    (tmp_path / "lock").write_text("")
    with one_at_a_time(tmp_path / "lock", patience=0) as alone:
        assert alone


def test_lock_is_waited_for_but_not_for_ever(tmp_path):
    with open(tmp_path / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with one_at_a_time(tmp_path / "lock", patience=0.1) as alone:
            assert not alone
        timer = threading.Timer(0.2, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        timer.start()
        with one_at_a_time(tmp_path / "lock", patience=30) as alone:
            assert alone
        timer.join()


def test_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with one_at_a_time(tmp_path / "lock", patience=30) as alone:
        assert not alone


# --- loading ---


@needs_gxx
def test_native_library_is_loaded_once(here):
    loaded = library.native(CPU)
    assert isinstance(loaded, ctypes.CDLL)
    assert library.native(CPU) is loaded
    assert library.native(torch.device("meta")) is None


@needs_gxx
@pytest.mark.parametrize("value", ["", "auto", "native"])
def test_modes_that_take_native_kernels(value, here, monkeypatch):
    monkeypatch.setenv("ADAFLOW_OPS", value)
    assert library.mode() == (value or "auto")
    assert library.native(CPU) is not None


def test_reference_mode_builds_nothing(here, monkeypatch, capfd):
    monkeypatch.setenv("ADAFLOW_OPS", "reference")
    assert library.native(CPU) is None
    assert capfd.readouterr().err == ""
    assert not (here / "cache").exists()


def test_native_mode_insists(here, monkeypatch):
    monkeypatch.setenv("ADAFLOW_OPS", "native")
    monkeypatch.setenv("PATH", str(here))
    for _ in range(2):
        with pytest.raises(BuildError, match="there are no native CPU kernels: there is no C\\+\\+ compiler") as error:
            library.native(CPU)
        assert error.value.exit_code == 3
        assert "Install g++" in error.value.hint


def test_unknown_mode(here, monkeypatch):
    monkeypatch.setenv("ADAFLOW_OPS", "fast")
    with pytest.raises(UsageError, match="ADAFLOW_OPS=fast is unknown"):
        library.native(CPU)


@needs_gxx
def test_reference_ops_hold_in_all_threads_and_nest(here):
    seen = []
    with library.reference_ops():
        with library.reference_ops():
            pass
        thread = threading.Thread(target=lambda: seen.append(library.native(CPU)))
        thread.start()
        thread.join()
    assert seen == [None]
    assert library.native(CPU) is not None
    with pytest.raises(KeyError), library.reference_ops():
        raise KeyError
    assert library.native(CPU) is not None


def test_library_that_does_not_load(here, monkeypatch, capfd):
    (here / "text.so").write_text("text")
    monkeypatch.setattr(library, "build", lambda kind: here / "text.so")
    assert library.native(CPU) is None
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "they do not load" in said[0]
    assert "without exec" in library.why_not(CPU).hint
    library._libraries.clear()
    monkeypatch.setattr(library, "build", lambda kind: here / "libgomp.so.1")
    assert "libgomp1" in library.why_not(CPU).hint


@needs_gxx
@pytest.mark.parametrize(
    ("change", "reason"),
    [(("= static_cast<float>(i)", "= 1"), "compute wrong numbers"), (("return 0", "return 5"), r"refused .*code 5")],
)
def test_library_that_does_not_work(change, reason, here):
    assert change[0] in PROBE
    (here / "native" / "probe_cpu.cpp").write_text(PROBE.replace(*change))
    assert re.search(reason, library.why_not(CPU).message)
    assert library.native(CPU) is None


@needs_gxx
def test_only_the_first_process_speaks(here, monkeypatch, capfd):
    monkeypatch.setenv("RANK", "1")
    assert library.native(CPU) is not None
    monkeypatch.setenv("PATH", str(here))
    (kept,) = cached(here)
    kept.unlink()
    library._libraries.clear()
    library._chosen.clear()
    assert library.native(CPU) is None
    assert capfd.readouterr().err == ""


@needs_gxx
def test_calls(here, monkeypatch):
    (here / "native" / "refuses_cpu.cpp").write_text(REFUSES)
    monkeypatch.setattr(library, "_signatures", dict(library._signatures))
    library.declare("adaflow_refuses", "dq")
    library.declare("adaflow_absent", "p")
    library.native(CPU)
    with pytest.raises(RuntimeError, match=r"adaflow_refuses: the kernel refused its arguments \(code 7\)"):
        library.call("adaflow_refuses", CPU, 0.5, 2**40)
    with pytest.raises(AttributeError):
        library.call("adaflow_absent", CPU, None)
    out = torch.zeros(3)
    library.call("adaflow_probe_f32", CPU, out.data_ptr(), 3)
    assert out.tolist() == [0, 1, 2]
    library.declare("adaflow_refuses", "")
    with pytest.raises(RuntimeError):
        library.call("adaflow_refuses", CPU)


def test_call_without_a_library(here, monkeypatch):
    monkeypatch.setenv("ADAFLOW_OPS", "reference")
    library.native(CPU)
    with pytest.raises(RuntimeError, match="reference path"):
        library.call("adaflow_probe_f32", CPU, 0, 0)


def test_importing_builds_nothing(here, monkeypatch):
    """Nor does it look for a compiler; and all that registers a self-test is imported by the doctor."""
    (here / "compiler").write_text(f"#!/bin/sh\ntouch {here}/asked\nexit 1\n")
    (here / "compiler").chmod(0o755)
    monkeypatch.setenv("CXX", str(here / "compiler"))
    registers = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "adaflow").rglob("*.py")
        if re.search(r"^register_self_test\(", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    ]
    code = f"import sys, adaflow.core.doctor; assert set({registers}) <= set(sys.modules), {registers}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=os.environ)
    assert not (here / "asked").exists()
    assert not (here / "cache").exists()


# --- the kernels themselves ---


@needs_gxx
def test_bf16_rounds_as_torch(here):
    (here / "native" / "bf16_cpu.cpp").write_text(
        '#include "common.h"\n'
        'extern "C" int adaflow_bf16(void* out, float* back, const float* x, int64_t size, int64_t) {\n'
        "    auto y = static_cast<adaflow::bf16*>(out);\n"
        "    for (int64_t i = 0; i < size; ++i) { y[i] = x[i]; back[i] = y[i]; }\n"
        "    return 0;\n}\n"
    )
    kernels = ctypes.CDLL(str(build("cpu")))
    words = torch.randint(-(2**31), 2**31, (100_000,), generator=torch.Generator().manual_seed(1)).to(torch.int32)
    special = torch.tensor([0.0, -0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, torch.inf, -torch.inf, 1e-45, torch.nan])
    x = torch.cat([words.view(torch.float32), special])
    y, back = torch.empty(len(x), dtype=torch.bfloat16), torch.empty(len(x))
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (y, back, x)]
    kernels.adaflow_bf16(*pointers, ctypes.c_int64(len(x)), ctypes.c_int64(1))
    torch.testing.assert_close(y, x.to(torch.bfloat16), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(back, y.float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.slow
@needs_nvcc
def test_cuda_sources_compile_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAFLOW_CACHE", str(tmp_path))
    from adaflow.core import doctor  # noqa: F401  all operations declare what they call

    path = build("cuda")
    loaded = ctypes.CDLL(str(path))
    for name in library._signatures:
        assert hasattr(loaded, name) != name.startswith("adaflow_winograd_"), name
    if tool := shutil.which("cuobjdump", path=f"{os.environ['PATH']}:/usr/local/cuda/bin"):
        code = subprocess.run(
            [tool, "--list-elf", "--list-ptx", path], check=True, capture_output=True, text=True
        ).stdout
        assert {"sm_80", "sm_90"} <= set(re.findall(r"sm_\d+", code))
        assert ".ptx" in code


@needs_gxx
def test_every_declared_function_is_in_the_cpu_library():
    """But for those that the processor has no instructions for."""
    from adaflow.core import doctor  # noqa: F401

    loaded = ctypes.CDLL(str(build("cpu")))
    command = ["g++", "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for name in library._signatures:
        winograd, kind = name.startswith("adaflow_winograd_"), name.rsplit("_", 1)[1]
        needed = {"f32": "__AVX512F__", "bf16": "__AVX512BF16__"}[kind] if winograd else ""
        assert hasattr(loaded, name) == (needed in macros), name
