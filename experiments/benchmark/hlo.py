"""Read the text of a compiled XLA program (HLO): what one step of its loop launches, computes, moves and adds up."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?(?P<name>\S+) = (?P<shape>\(.*?\)|\S+) (?P<opcode>[\w-]+)\((?P<rest>.*)")
HEAD = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>\S+) \(.*\{$")
ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
CALLED = re.compile(r"\b(?:calls|body|condition|to_apply|branch_computations)=(\{.*?\}|%?[\w.-]+)")

FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
"""Opcodes that launch nothing; the second halves of asynchronous ones (-done) do not either."""
TRANSFERS = {"infeed", "outfeed", "send", "recv"}


class Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    operands: list[str]
    rest: str
    """Operands and attributes as text."""

    @property
    def target(self) -> str:
        """Which library a custom call goes to."""
        return self.attribute("custom_call_target")

    @property
    def op_name(self) -> str:
        """The Python functions and transformations that it stems from."""
        return self.attribute("op_name")

    def attribute(self, name: str) -> str:
        found = re.search(rf'{name}="([^"]*)"', self.rest)
        return found[1] if found else ""

    def called(self) -> list[str]:
        return [name for names in CALLED.findall(self.rest) for name in re.findall(r"[\w.-]+", names)]


Computation = dict[str, Instruction]
Program = dict[str, Computation]
"""Computations by name; the entry's is "ENTRY"."""


class Counts(NamedTuple):
    """What one step does, per device."""

    convolutions: int
    library_convolutions: int
    """Those among them that cuDNN computes."""
    fusions: int
    launches: int
    """Kernels, library calls, copies and collectives."""
    all_reduces: int
    batch_norm_all_reduces: int
    """Those among them that carry statistics of batch norm, forwards or backwards, alone or with gradients."""
    reduced_bytes: int
    host_transfers: int
    flops: int
    """Of convolutions and matrix products; element-wise operations are not counted."""
    accessed_bytes: int
    """Operands and results of all launches: what passes through memory if no cache holds it."""


def parse(text: str) -> Program:
    program: Program = {}
    for line in text.splitlines():
        if head := HEAD.match(line):
            current = program.setdefault("ENTRY" if head["entry"] else head["name"], {})
        elif found := INSTRUCTION.match(line):
            operands = re.findall(r"%([\w.-]+)", found["rest"].split("), ")[0])
            current[found["name"]] = Instruction(
                found["name"], found["shape"], found["opcode"], operands, found["rest"]
            )
    return program


def arrays(shape: str) -> list[tuple[str, list[int]]]:
    """Return the dtypes and extents of an array's or tuple's text."""
    return [
        (dtype, [int(extent) for extent in extents.split(",") if extent]) for dtype, extents in ARRAY.findall(shape)
    ]


def num_bytes(shape: str) -> int:
    return sum(math.prod(extents) * item_bytes(dtype) for dtype, extents in arrays(shape))


def item_bytes(dtype: str) -> int:
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1


def step_of(program: Program) -> str:
    """Return the computation of one step: the body of the entry's loop whose length is an argument; the entry if there
    is no such loop."""
    for instruction in program["ENTRY"].values():
        if instruction.opcode == "while" and trip_count(instruction) is None:
            return re.search(r"body=%?([\w.-]+)", instruction.rest)[1]  # type: ignore[index]
    return "ENTRY"


def trip_count(instruction: Instruction) -> int | None:
    found = re.search(r'known_trip_count":\{"n":"(\d+)"', instruction.rest)
    return int(found[1]) if found else None


def launches(program: Program, name: str, times: int = 1) -> Iterator[tuple[int, str, Instruction]]:
    """Yield the instructions that a device launches for a computation: how often each, and where it stands."""
    for instruction in program[name].values():
        if instruction.opcode in FREE or instruction.opcode.endswith("-done"):
            continue
        if instruction.opcode in ("while", "call", "conditional"):
            for called in instruction.called():
                yield from launches(program, called, times * (trip_count(instruction) or 1))
        else:
            yield times, name, instruction


def count(text: str) -> Counts:
    program = parse(text)
    total = dict.fromkeys(Counts._fields, 0)
    for times, name, instruction in launches(program, step_of(program)):
        facts = describe(program, program[name], instruction)
        for field, value in facts._asdict().items():
            total[field] += times * value
    return Counts(**total)


def describe(program: Program, around: Computation, instruction: Instruction) -> Counts:
    """Count one launch; `around` is the computation in which it stands."""
    inside = list(computing(program, around, instruction))
    reduces = instruction.opcode in ("all-reduce", "all-reduce-start")
    in_model = "jvp(" in instruction.op_name  # the gradients' own stand outside of what is differentiated
    return Counts(
        convolutions=sum(is_convolution(each) for _, each in inside),
        library_convolutions=sum("__cudnn$conv" in each.target for _, each in inside),
        fusions=int(instruction.opcode == "fusion"),
        launches=1,
        all_reduces=int(reduces),
        batch_norm_all_reduces=int(reduces and in_model),
        reduced_bytes=sum(num_bytes(around[name].shape) for name in instruction.operands) if reduces else 0,
        host_transfers=int(instruction.opcode in TRANSFERS or "callback" in instruction.target),
        flops=sum(flops(each, computation) for computation, each in inside),
        accessed_bytes=accessed_bytes(program, around, instruction),
    )


def computing(
    program: Program, around: Computation, instruction: Instruction
) -> Iterator[tuple[Computation, Instruction]]:
    """Yield an instruction and those of the computations that it calls, each with its computation."""
    yield around, instruction
    for name in instruction.called() if instruction.opcode == "fusion" else []:
        for each in program[name].values():
            yield from computing(program, program[name], each)


def is_convolution(instruction: Instruction) -> bool:
    return instruction.opcode == "convolution" or "__cudnn$conv" in instruction.target


def flops(instruction: Instruction, around: Computation) -> int:
    """Return two per multiplication and addition of a convolution or matrix product, 0 for others."""
    result = arrays(instruction.shape)[0][1] if arrays(instruction.shape) else []
    operands = [arrays(around[name].shape)[0][1] for name in instruction.operands[:2] if name in around]
    if is_convolution(instruction):
        labels = re.search(r"dim_labels=\w+_\w+->(\w+)", instruction.rest)[1]  # type: ignore[index]
        if "BackwardFilter" in instruction.target:
            output, kernel = operands[1], result
        elif "BackwardInput" in instruction.target:
            output, kernel = operands
        else:
            output, kernel = result, operands[1]
        return 2 * math.prod(output) * math.prod(kernel) // output[labels.index("f")]
    found = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', instruction.rest)
    if not found or (instruction.opcode != "dot" and "gemm" not in instruction.target):
        return 0
    contracted = [operands[0][int(axis)] for axis in re.findall(r"\d+", found[1])]
    return 2 * math.prod(result) * math.prod(contracted)


def accessed_bytes(program: Program, around: Computation, instruction: Instruction) -> int:
    """Return the bytes of results and operands; of an operand that is only gathered or sliced, those parts."""
    sizes = [num_bytes(around[name].shape) for name in instruction.operands if name in around]
    if instruction.opcode == "fusion":
        inside = program[instruction.called()[0]]
        for each in inside.values():
            if each.opcode == "parameter":
                number = int(each.rest.split(")")[0])
                sizes[number] = min(sizes[number], read_bytes(inside, each.name))
    return num_bytes(instruction.shape) + sum(sizes)


def read_bytes(inside: Computation, name: str) -> int:
    """Return how much of a parameter a fused computation reads."""
    users = [each for each in inside.values() if name in each.operands]
    parts = [num_bytes(user.shape) for user in users if user.opcode in ("gather", "dynamic-slice", "slice")]
    return sum(parts) if len(parts) == len(users) else num_bytes(inside[name].shape)
