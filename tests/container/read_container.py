"""Reads a *.cotenant file by docs/container.md, with the standard library alone, and prints a line of JSON for each module.

    python3 tests/container/read_container.py FILE > VALUES.jsonl

An oracle for the golden file: it shares nothing with the server's reader, checks little and is slow.
"""

import hashlib
import itertools
import json
import math
import struct
import sys
import zlib

TENSORS = {
    "low-rank": ("a", "b"),
    "channels": ("channels", "b"),
    "sparse": ("indices", "values"),
    "scale": ("scale", "shift"),
    "soft-prompt": ("hidden",),
    "prefix": ("keys", "values"),
    "embedding": ("a", "b"),
    "head": ("a", "b"),
}
SCALED = {"low-rank": "b", "channels": "b", "sparse": "values", "embedding": "b", "head": "b"}
M32 = 0xFFFFFFFF
DICTIONARY = (
    b'"kind":"embedding","kind":"head","kind":"soft-prompt","tokens":"hidden":"kind":"prefix","keys":"values":'
    b'"kind":"sparse","entries":"indices":"kind":"channels","channels":"gaps""u32""kind":"scale","shift":'
    b'"ledger""masked-ledger""sparse""bf16""f32""f16""int8""int4"{"base":"","sha256":"","ledgerBytes":0,'
    b'"modules":[{"kind":"low-rank","layer":0,"projection":"o","rank":8,"scale":1,"tensors":{"a":{"codec":'
    b'"ternary","shape":[8,"bytes":},"b":{"codec":"ternary","shape":[8,"bytes":}}},{"kind":"low-rank","layer":1,'
    b'"projection":"gate","rank":16,"scale":1,"tensors":{"a":{"codec":"ternary","shape":[16,"projection":"q",'
    b'"projection":"k","projection":"v","projection":"up","projection":"down"}}}],"lineage":{"operation":'
    b'"compress","parents":[""],"parameters":{"method":"compeft","density":0.05}},"metadata":{}}'
)


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def align(offset, to):
    return -(-offset // to) * to


def raw(data, form, n):
    return list(struct.unpack(f"<{n}{form}", data))


def bf16(data, n):
    return [struct.unpack("<f", struct.pack("<I", word << 16))[0] for word in raw(data, "H", n)]


def groups(data, n, bits):
    size, unit = struct.unpack_from("<If", data)
    count = -(-n // size)
    scales = struct.unpack_from(f"<{count}e", data, 8)
    body = data[8 + 2 * count :]
    if bits == 8:
        integers = struct.unpack(f"<{n}b", body)
    else:
        nibbles = [(body[i // 2] >> (4 * (i % 2))) & 15 for i in range(n)]
        integers = [x - 16 if x > 7 else x for x in nibbles]
    return [f32(integers[i] * f32(unit * scales[i // size])) for i in range(n)]


def rice(data, low):
    bits = "".join(f"{byte:08b}" for byte in data)
    at, numbers = 0, []
    while (one := bits.find("1", at)) >= 0:
        numbers.append(((one - at) << low) | int(bits[one + 1 : one + 1 + low], 2))
        at = one + 1 + low
    return numbers


def positions(gaps):
    place, places = -1, []
    for gap in gaps:
        place += gap + 1
        places.append(place)
    return places


def urn_table(index):
    marked = round(65536 * 2 ** (-(index // 8) / 4))
    more = 65536 >> (9 - index % 8) if index % 8 else 0
    weights = []
    for count in range(17):
        weight = float(math.comb(16, count))
        for drawn in range(count):
            weight *= marked + drawn * more
        for drawn in range(16 - count):
            weight *= 65536 - marked + drawn * more
        weights.append(weight)
    whole = 0.0
    for weight in weights:
        whole += weight
    table = [1 + math.floor(weight * 4079 / whole) for weight in weights]
    table[table.index(max(table))] += 4096 - sum(table)
    return table


def urn(data, n, rows):
    table = urn_table(data[0] - 32)
    below = [sum(table[:count]) for count in range(17)]
    state, at, counts = int.from_bytes(data[1:4], "big"), 4, []
    for _ in range(-(-n // 16)):
        slot = state % 4096
        count = max(c for c in range(17) if below[c] <= slot)
        counts.append(count)
        state = table[count] * (state // 4096) + slot - below[count]
        while state < 1 << 15:
            state = state * 256 + data[at]
            at += 1
    magnitude = struct.unpack("<f", struct.pack("<I", (state - (1 << 15)) << 16))[0]
    bits = "".join(f"{byte:08b}" for byte in data[at:])
    sets = [sorted(sum(1 << bit for bit in chosen) for chosen in itertools.combinations(range(16), k)) for k in range(17)]
    values = [0.0] * n
    at = 0
    for group, count in enumerate(counts):
        width = len(sets[count]).bit_length() - 1
        shorter = 2 ** (width + 1) - len(sets[count])
        index = int(bits[at : at + width] or "0", 2)
        at += width
        if index >= shorter:
            index = index * 2 + int(bits[at]) - shorter
            at += 1
        for bit in range(16):
            if sets[count][index] >> bit & 1:
                column, row = divmod(group * 16 + bit, rows)
                values[row * (n // rows) + column] = -magnitude if bits[at] == "1" else magnitude
                at += 1
    return values


def ternary(data, n, rows):
    if data[0] >= 32:
        return urn(data, n, rows)
    magnitude = struct.unpack_from("<f", data, 1)[0]
    values = [0.0] * n
    if data[0] == 0:
        half = -(-n // 8)
        for i in range(n):
            positive = data[5 + i // 8] >> (i % 8) & 1
            negative = data[5 + half + i // 8] >> (i % 8) & 1
            values[i] = magnitude * (positive - negative)
        return values
    codes = rice(data[5:], data[0])
    for place, code in zip(positions([code >> 1 for code in codes]), codes):
        values[place] = -magnitude if code & 1 else magnitude
    return values


def sparse(data, n):
    count, unit = struct.unpack_from("<If", data, 1)
    kept = struct.unpack_from(f"<{count}e", data, 9)
    values = [0.0] * n
    for place, value in zip(positions(rice(data[9 + 2 * count :], data[0])), kept):
        values[place] = f32(value * unit)
    return values


def mix(x):
    x &= M32
    x = (x ^ (x >> 16)) * 0x85EBCA6B & M32
    x = (x ^ (x >> 13)) * 0xC2B2AE35 & M32
    return x ^ (x >> 16)


def word(seed, block):
    return mix(mix(mix(seed ^ 0x9E3779B9) + block) ^ mix(seed + 0x7F4A7C15) ^ block)


def sign(seed, place):
    return 1 if word(seed, place // 32) >> (place % 32) & 1 else -1


def replay(data, n, ledger, first):
    steps = [(struct.unpack_from("<I", ledger)[0], struct.unpack("<f", data)[0])]
    steps += [struct.unpack_from("<If", ledger, at) for at in range(4, len(ledger), 8)]
    values = []
    for place in range(first, first + n):
        total = 0.0
        for seed, scalar in steps:
            total += scalar * sign(seed, place)
        values.append(f32(total))
    return values


def masked_replay(data, n, ledger, first):
    bound, share, mask_steps = struct.unpack("<ffI", data)
    seed = struct.unpack_from("<I", ledger)[0]
    values = [(word(seed, first + i) / 2**31 - 1) * bound for i in range(n)]
    for index, at in enumerate(range(4, len(ledger), 8)):
        if index % mask_steps == 0:
            sizes = [abs(f32(value)) for value in values]
            threshold = sorted(sizes)[math.ceil(share * n) - 1]
            mask = [size <= threshold for size in sizes]
        seed, scalar = struct.unpack_from("<If", ledger, at)
        for i in range(n):
            if mask[i]:
                values[i] += scalar * sign(seed, first + i)
    return [f32(value) for value in values]


LEDGERS = {"ledger": replay, "masked-ledger": masked_replay}
CODECS = {
    "f32": lambda data, n: raw(data, "f", n),
    "f16": lambda data, n: raw(data, "e", n),
    "bf16": bf16,
    "u32": lambda data, n: raw(data, "I", n),
    "int8": lambda data, n: groups(data, n, 8),
    "int4": lambda data, n: groups(data, n, 4),
    "gaps": lambda data, n: positions(rice(data[1:], data[0])),
    "sparse": sparse,
}


def read(path):
    data = open(path, "rb").read()
    magic, version, stored, text = struct.unpack_from("<8sIII", data)
    assert magic == b"cotenant" and version in (1, 2)
    inflate = zlib.decompressobj(zdict=DICTIONARY) if version == 2 else zlib.decompressobj()
    manifest_text = inflate.decompress(data[20 : 20 + stored])
    assert len(manifest_text) == text
    manifest = json.loads(manifest_text)
    start = align(20 + stored, 64 if version == 1 else 1)
    assert hashlib.sha256(data[start:]).hexdigest() == manifest["sha256"]
    ledger = data[start : start + manifest["ledgerBytes"]]
    at = start + len(ledger)
    first = 0
    modules = []
    for entry in manifest["modules"]:
        module = {key: entry[key] for key in ("kind", "layer", "projection") if key in entry}
        for name in TENSORS[entry["kind"]]:
            if name not in entry["tensors"]:
                continue
            tensor = entry["tensors"][name]
            n = 1
            for length in tensor["shape"]:
                n *= length
            piece = data[at : at + tensor["bytes"]]
            at += tensor["bytes"]
            if tensor["codec"] in LEDGERS:
                values = LEDGERS[tensor["codec"]](piece, n, ledger, first)
                first += n
            elif tensor["codec"] == "ternary":
                values = ternary(piece, n, tensor["shape"][0])
            else:
                values = CODECS[tensor["codec"]](piece, n)
            if SCALED.get(entry["kind"]) == name:
                values = [f32(value * entry["scale"]) for value in values]
            module[name] = values
        modules.append(module)
    assert at == len(data)
    return modules


if __name__ == "__main__":
    for module in read(sys.argv[1]):
        print(json.dumps(module, separators=(",", ":")))
