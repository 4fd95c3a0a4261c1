"""The tensors, numbers and texts in a file that `torch.save` wrote, read without running anything that it names.

    zip       data.pkl, and data/<name> with the bytes of each storage; what torch writes now
    legacy    five pickles, then the bytes of each storage; what it wrote before 1.6

`torch.load(weights_only=True)` runs nothing either, but puts whatever it stumbles over into the text of its error: a
storage said to have 10^9 numbers, or a tuple of tuples that doubles sixty times, takes for ever to be written. So the
pickle is read here, by the few codes and names that weights and checkpoints are made of; anything else is an error, and
errors hold no content. What is asked for is bounded by the file's size.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, BinaryIO, ClassVar

import torch

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_ZIP = b"PK\x03\x04"
_DEEPEST = 100

_CODES = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID),
    *(pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.APPEND, pickle.APPENDS),
    *(pickle.SETITEM, pickle.SETITEMS, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1),
    *(pickle.BINFLOAT, pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.BINPUT, pickle.LONG_BINPUT),
)

_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class _Storage:
    """Numbers in the file: those of one storage, or of a part of it."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self.numbers = numbers


def load_torch_file(file: BinaryIO) -> Any:
    """What a file of `torch.save` holds, on the CPU: dicts, lists, tuples, numbers, texts and dense tensors.

    Raises:
        Exception: Of many kinds, when it is damaged or holds something else; to be read under `pipeline.system.parsed`.
    """
    data = file.read()
    return _load_zip(data) if data.startswith(_ZIP) else _load_legacy(data)


def _load_zip(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1)
        folder = pickled.removesuffix("data.pkl")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which torch does not do")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers have another byte order")

        def content(name: str, dtype: torch.dtype, count: int) -> torch.Tensor:
            held = bytearray(archive.read(f"{folder}data/{name}"))
            if len(held) != count * dtype.itemsize:
                raise ValueError(f"a storage has {len(held)} bytes; expected {count * dtype.itemsize}")
            return torch.frombuffer(held, dtype=dtype) if count else torch.empty(0, dtype=dtype)

        return _Unpickler(io.BytesIO(archive.read(pickled)), content).load()


def _load_legacy(data: bytes) -> Any:
    stream = io.BytesIO(data)
    left = len(data)
    storages: dict[str, torch.Tensor] = {}

    def content(name: str, dtype: torch.dtype, count: int) -> torch.Tensor:
        """Empty for now: the numbers come behind the pickles."""
        nonlocal left
        left -= count * dtype.itemsize
        if left < 0:
            raise ValueError("it asks for more numbers than it has bytes")
        storages[name] = torch.zeros(count, dtype=dtype)
        return storages[name]

    magic, protocol, machine = (_Unpickler(stream).load() for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not isinstance(machine, dict) or not machine.get("little_endian"):
        raise ValueError("it does not begin like a file of torch.save")
    held = _Unpickler(stream, content).load()
    for name in _texts(_Unpickler(stream).load()):
        numbers = storages[name]
        if int.from_bytes(stream.read(8), "little") != len(numbers):
            raise ValueError("a storage has another length than its tensors expect")
        if len(numbers):
            piece = stream.read(len(numbers) * numbers.itemsize)
            numbers.copy_(torch.frombuffer(bytearray(piece), dtype=numbers.dtype))
    return held


class _KnownCodes(dict[int, Any]):
    """What to do for each code that may come."""

    def __missing__(self, code: int) -> Any:
        raise pickle.UnpicklingError(f"it has the pickle code {code}, which no weights need")


# The one in Python: its codes can be chosen, and its memo takes no more memory than there are entries.
_PurePython: Any = pickle._Unpickler


class _Unpickler(_PurePython):  # type: ignore[misc]
    """Knows the codes and names of plain content and of dense tensors."""

    def __init__(self, file: BinaryIO, content: Callable[[str, torch.dtype, int], torch.Tensor] | None = None) -> None:
        super().__init__(file, encoding="utf-8")
        self._content, self._storages = content, dict[str, tuple[torch.Tensor, torch.dtype]]()

    def find_class(self, module: str, name: str) -> Any:
        """What stands for one of the few names that are known."""
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return torch.uint8
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module[:60]}.{name[:60]}, which no weights need")
        return _NAMES[module, name]

    def persistent_load(self, pid: object) -> _Storage:
        """The storage that a tensor names: ("storage", type, name, device, count[, view])."""
        if self._content is None or not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError("a storage is described in another way than torch does")
        dtype, name, count = pid[1], pid[2], pid[4]
        if not isinstance(dtype, torch.dtype) or not isinstance(name, str) or not _is_count(count):
            raise pickle.UnpicklingError("a storage is described in another way than torch does")
        numbers, held = self._storages.get(name) or (self._content(name, dtype, count), dtype)
        self._storages[name] = numbers, held
        if held != dtype:
            raise pickle.UnpicklingError("a storage has two types")
        return _Storage(_view(numbers, pid[5] if len(pid) == 6 else None))

    def load_reduce(self) -> None:
        """Call one of the known functions, and nothing else that may lie on the stack."""
        arguments, function = self.stack.pop(), self.stack[-1]
        if not any(function is each for each in _FUNCTIONS) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it asks for a call that no weights need")
        self.stack[-1] = function(*arguments)

    def load_build(self) -> None:
        """The attributes of a dict of tensors, such as the versions of its modules: not needed, so not taken."""
        self.stack.pop()
        if not isinstance(self.stack[-1], OrderedDict):
            raise pickle.UnpicklingError("it sets attributes of something else than a dict")

    def load_setitem(self) -> None:
        """One entry of a dict."""
        value, name = self.stack.pop(), self.stack.pop()
        self._set((name, value))

    def load_setitems(self) -> None:
        """Several entries of a dict."""
        self._set(self.pop_mark())

    def _set(self, items: Any) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise pickle.UnpicklingError("it sets entries of something else than a dict")
        target.update(_named(zip(items[::2], items[1::2], strict=True)))

    def load_appends(self) -> None:
        """Several entries of a list."""
        items = self.pop_mark()
        self._list().extend(items)

    def load_append(self) -> None:
        """One entry of a list."""
        item = self.stack.pop()
        self._list().append(item)

    def _list(self) -> list[Any]:
        if not isinstance(self.stack[-1], list):
            raise pickle.UnpicklingError("it appends to something else than a list")
        return self.stack[-1]

    dispatch: ClassVar[dict[int, Any]] = _KnownCodes()
    dispatch |= {
        **{code[0]: _PurePython.dispatch[code[0]] for code in _CODES},
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
    }


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _view(numbers: torch.Tensor, view: object) -> torch.Tensor:
    """The part of a storage that (name, offset, count) says; all of it for None."""
    if view is None:
        return numbers
    if not isinstance(view, tuple) or len(view) != 3 or not _is_count(view[1]) or not _is_count(view[2]):
        raise pickle.UnpicklingError("a view of a storage is described in another way than torch does")
    return numbers[view[1] : view[1] + view[2]]


def _named(pairs: Any) -> dict[Any, Any]:
    """A dict of these pairs; other names than texts, numbers and bytes may take for ever to be hashed."""
    entries = {}
    for name, value in pairs:
        if not isinstance(name, str | int | float | bytes | NoneType):
            raise pickle.UnpicklingError("an entry of a dict has another name than a text or number")
        entries[name] = value
    return entries


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("the names of its storages are no list of texts")
    return value


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict(_named(pairs))


def _counter(pairs: Any = ()) -> Counter[Any]:
    return Counter(_named(pairs.items() if isinstance(pairs, Mapping) else pairs))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> torch.Tensor:
    """A dense tensor over a storage, with no more numbers than that has."""
    whole = all(map(_is_count, (offset, *size, *stride)))
    if not isinstance(storage, _Storage) or not whole or len(size) != len(stride) or len(size) > _DEEPEST:
        raise pickle.UnpicklingError("a tensor is described in another way than torch does")
    count = 1
    for side in size:
        count *= side
        if count > len(storage.numbers):
            raise pickle.UnpicklingError("a tensor has more numbers than its storage")
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if count and last >= len(storage.numbers):
        raise pickle.UnpicklingError("a tensor lies outside its storage")
    return storage.numbers.as_strided(size, stride, offset if count else 0)


def _parameter(data: Any, *_: object) -> torch.Tensor:
    if not isinstance(data, torch.Tensor):
        raise pickle.UnpicklingError("a parameter is no tensor")
    return data


def _size(sides: Any = ()) -> tuple[Any, ...]:
    return tuple(sides)


def _device(kind: Any = "", *_: object) -> str:
    return kind if isinstance(kind, str) else ""


_NAMES: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("collections", "Counter"): _counter,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
}
_FUNCTIONS = tuple(_NAMES.values())
