"""Vectors of lanes for numba: the arithmetic of a SIMD register, spelled out instead of hoped for.

A `Lanes` value holds WIDTH numbers and lives in registers. LLVM splits or joins it to what the
processor has, so the code is the same everywhere and no compiler is needed beside numba's own.
"""

import operator

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing import signature as typing_signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

WIDTH = 16 if llvm.get_host_cpu_features().get("avx512f") else 8
"""Lanes a register; 8 also where they are split in two."""


class Lanes(types.Type):
    """WIDTH numbers of one scalar type."""

    def __init__(self, scalar: types.Float) -> None:
        self.scalar = scalar
        super().__init__(f"Lanes({scalar})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(_scalar(fe_type), WIDTH))


def _scalar(lanes: Lanes) -> ir.Type:
    return ir.FloatType() if lanes.scalar == types.float32 else ir.DoubleType()


def _pointer(context, builder, array_type, array, row):
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.gep(data, [builder.mul(row, ir.Constant(row.type, WIDTH))])
    lanes = ir.VectorType(_scalar(Lanes(array_type.dtype)), WIDTH)
    return builder.bitcast(first, lanes.as_pointer()), array_type.dtype.bitwidth // 8


@intrinsic
def load(typingctx, array, row):
    """Row `row` of an array whose rows are WIDTH long."""

    def codegen(context, builder, signature, args):
        pointer, align = _pointer(context, builder, signature.args[0], *args)
        return builder.load(pointer, align=align)

    return Lanes(array.dtype)(array, types.intp), codegen


@intrinsic
def store(typingctx, array, row, lanes):
    """Writes a row of an array whose rows are WIDTH long."""

    def codegen(context, builder, signature, args):
        pointer, align = _pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], pointer, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


@intrinsic
def splat(typingctx, lanes, number):
    """`number` in every lane, of the kind of `lanes`."""

    def codegen(context, builder, signature, args):
        kind = ir.VectorType(_scalar(signature.return_type), WIDTH)
        number = context.cast(builder, args[1], signature.args[1], signature.return_type.scalar)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)

    return lanes(lanes, number), codegen


@intrinsic
def largest(typingctx, a, b):
    """The larger of two, lane by lane. Neither may be NaN."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, a), codegen


@intrinsic
def smallest(typingctx, a, b):
    """The smaller of two, lane by lane. Neither may be NaN."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return a(a, a), codegen


@intrinsic
def where_greater(typingctx, a, b, yes, no):
    """`yes` in the lanes where a > b, else `no`."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return yes(a, a, yes, yes), codegen


@intrinsic
def magnitude(typingctx, a):
    """The absolute value, lane by lane."""

    def codegen(context, builder, signature, args):
        kind = args[0].type
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [kind]),
            f"llvm.fabs.v{WIDTH}f{signature.return_type.scalar.bitwidth}",
        )
        return builder.call(function, args)

    return a(a), codegen


class _SameKind(AbstractTemplate):
    """Lanes with Lanes of the same kind gives that kind."""

    def generic(self, args, kws):
        if isinstance(args[0], Lanes) and all(other == args[0] for other in args):
            return typing_signature(args[0], *args)
        return None


def _operator(python_operator, instruction: str, arguments: int) -> None:
    infer_global(python_operator)(type(f"_{instruction}", (_SameKind,), {}))

    @lower_builtin(python_operator, *[Lanes] * arguments)
    def lower(context, builder, signature, args):
        return getattr(builder, instruction)(*args)


_operator(operator.add, "fadd", 2)
_operator(operator.sub, "fsub", 2)
_operator(operator.mul, "fmul", 2)
_operator(operator.neg, "fneg", 1)


jit = numba.njit(cache=True, nogil=True, error_model="numpy")
"""How functions are compiled here: once a machine (numba's cache), without the interpreter lock."""

jit_inner = numba.njit(cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""The same for what only compiled code calls: without doors for Python, which take time to compile."""
