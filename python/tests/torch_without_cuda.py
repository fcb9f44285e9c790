"""Makes torch from PyPI importable without NVIDIA's libraries: those are four gigabytes, and tests run on the CPU.

Its libraries are linked to them. In their place come libraries of the same names, with the functions that torch asks for;
each gives 100, which is cudaErrorNoDevice. All that is not CUDA is torch as it is published.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NVIDIA = re.compile(r"lib(cu|nccl|nv)")


def lines(*command: str | Path) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


found = importlib.util.find_spec("torch")
if found is None or found.origin is None:
    sys.exit("torch is not installed")
folder = Path(found.origin).parent / "lib"
needed: set[str] = set()
undefined: set[str] = set()
versions: dict[str, set[str]] = {}
for library in sorted(folder.glob("lib*.so*")):
    needed |= {match[1] for line in lines("readelf", "-d", library) if (match := re.search(r"NEEDED.*\[(.*)\]", line))}
    undefined |= {line.split()[-1] for line in lines("nm", "-D", "--undefined-only", library)}
    wanted = ""
    for line in lines("readelf", "-V", library):
        if match := re.search(r"File: (\S+)", line):
            wanted = match[1]
        elif match := re.search(r"Name: (\S+)", line):
            versions.setdefault(wanted, set()).add(match[1])
functions = {name for name in undefined if re.match(r"_{0,2}(cu|nccl|nv)", name)}

with tempfile.TemporaryDirectory() as place:
    source, script = Path(place) / "functions.c", Path(place) / "versions.map"
    for library in sorted(name for name in needed if NVIDIA.match(name)):
        code, exported = [], []
        for version in sorted(versions.get(library, {library})):
            own = {name.split("@")[0] for name in functions if name.endswith(f"@{version}")}
            if library.startswith("libcudart"):
                own |= {name for name in functions if "@" not in name}
            code += [f"int {name}(void) {{ return 100; }}\n" for name in sorted(own)]
            names = f"global: {' '.join(f'{name};' for name in sorted(own))}" if own else ""
            exported.append(f"{version} {{ {names} {'local: *;' if not exported else ''} }};\n")
        source.write_text("".join(code))
        script.write_text("".join(exported))
        flags = ["-w", "-O1", "-shared", "-fPIC", "-fno-builtin", f"-Wl,--version-script={script}", f"-Wl,-soname,{library}"]
        subprocess.run(["cc", *flags, source, "-o", folder / library], check=True)
