"""Build llama-server with shared libraries from llama.cpp's sources.

No shared build for Linux can be installed (llama.cpp b11434), so one is compiled: only the target
`llama-server`, sources joined ("unity") and little optimised outside the compute kernels, which
takes a third of a plain release build's time on two cores.
"""

from __future__ import annotations

import shlex
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

CMAKE_FLAGS = (
    *shlex.split(
        "-G Ninja -DBUILD_SHARED_LIBS=ON -DCMAKE_BUILD_TYPE=Release"
        " -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF"
        " -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF"
        " -DLLAMA_ALL_WARNINGS=OFF -DGGML_LLAMAFILE=OFF -DGGML_CPU_REPACK=OFF"
        " -DGGML_OPENMP=OFF -DGGML_CCACHE=OFF"
        " -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=16"
    ),
    # Without a repository beside it the build does not know its own number.
    "-DLLAMA_BUILD_NUMBER={number}",
    "-DCMAKE_C_FLAGS_RELEASE=-O2 -DNDEBUG",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
)

# Included by CMake right after project(): these sources clash when joined.
EXCEPTIONS = """\
cmake_language(DEFER CALL cmake_language EVAL CODE [[
  set_target_properties(ggml-cpu PROPERTIES UNITY_BUILD OFF)
  file(GLOB apart "${CMAKE_SOURCE_DIR}/tools/mtmd/mtmd-helper*.cpp")
  set_source_files_properties(${apart} TARGET_DIRECTORY mtmd
    PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
]])
"""

Run = Callable[[list[str]], None]


def build(archive: Path, number: str, root: Path, run: Run) -> None:
    """Compile llama-server out of a source archive into `root`/bin, libraries beside it.

    archive: a .tar.gz that holds a folder `llama.cpp` one level down, of build `number`. run:
    executes a command, raises on failure. `cmake` and `ninja` are taken from `root`/bin.
    """
    source = root / "source"
    with tarfile.open(archive) as packed:
        packed.extractall(source, filter="data")
    tree = next(source.glob("*/llama.cpp"))
    exceptions = source / "exceptions.cmake"
    exceptions.write_text(EXCEPTIONS)
    output = source / "build"
    flags = [flag.format(number=number) for flag in CMAKE_FLAGS]
    configure = [str(root / "bin" / "cmake"), "-S", str(tree), "-B", str(output), *flags]
    ninja = root / "bin" / "ninja"
    run(
        [
            *configure,
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={exceptions}",
            "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",
            "-DCMAKE_BUILD_RPATH=$ORIGIN",
        ]
    )
    run([str(ninja), "-C", str(output), "llama-server"])
    for built in (output / "bin").iterdir():
        shutil.move(built, root / "bin" / built.name)
    shutil.rmtree(source)
