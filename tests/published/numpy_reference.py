"""A second reading of the released families, in plain NumPy and float64, from their documents alone.

It shares nothing with `latticebench`: names and shapes of the state dicts, and what happens between them, are
written out once more. `python -m tests.published.record` runs it at tiny widths and writes replay.json.
"""

import hashlib
import itertools
import math

import numpy as np

State = dict[str, np.ndarray]


class Shapes:
    """Draws a state dict: every entry from its own name, so that entries do not depend on their order."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.state: State = {}

    def put(self, key: str, *shape: int, kind: str = "weight") -> None:
        seed = int.from_bytes(hashlib.sha256(f"{self.family}/{key}".encode()).digest()[:8], "big")
        draw = np.random.default_rng(seed).standard_normal(shape)
        if kind == "weight":
            draw = draw * 1.4 / math.sqrt(max(1, math.prod(shape[1:])))
        elif kind == "bias":
            draw = draw * 0.1
        elif kind == "norm":
            draw = 1 + 0.2 * draw
        self.state[key] = draw.astype(np.float32)

    def pair(self, stem: str, outputs: int, *rest: int) -> None:
        """`.weight` of outputs x rest and a `.bias` beside it."""
        self.put(stem + ".weight", outputs, *rest)
        self.put(stem + ".bias", outputs, kind="bias")

    def norm(self, stem: str, width: int) -> None:
        self.put(stem + ".weight", width, kind="norm")
        self.put(stem + ".bias", width, kind="bias")


# Elementary operations ---------------------------------------------------------------------------------------


def conv(x, w, b=None, stride=1, pad=(0, 0, 0, 0)):
    """x (B, C, H, W), pad (left, right, top, bottom)."""
    left, right, top, bottom = pad
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    k = w.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]
    y = np.tensordot(windows, w, axes=([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)
    return y if b is None else y + b[None, :, None, None]


def swish(x):
    return x / (1 + np.exp(-x))


def group_norm(x, groups=32, weight=None, bias=None, eps=1e-6):
    b, c, h, w = x.shape
    g = x.reshape(b, groups, -1)
    g = (g - g.mean(2, keepdims=True)) / np.sqrt(g.var(2, keepdims=True) + eps)
    y = g.reshape(b, c, h, w)
    return y if weight is None else y * weight[:, None, None] + bias[:, None, None]


def layer_norm(x, weight=None, bias=None, eps=1e-6):
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return y if weight is None else y * weight + bias


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def unit(x, axis=-1):
    return x / np.maximum(np.linalg.norm(x, axis=axis, keepdims=True), 1e-12)


def gelu_exact(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _along(x, weights, axis):
    return np.moveaxis(np.tensordot(weights, x, axes=([1], [axis])), 0, axis)


def area(x, side):
    """Mean over the cells floor(i n / s) … ceil((i + 1) n / s)."""
    n = x.shape[2]
    m = np.zeros((side, n))
    for i in range(side):
        start, end = (i * n) // side, -((-(i + 1) * n) // side)
        m[i, start:end] = 1 / (end - start)
    return _along(_along(x, m, 2), m, 3)


def bilinear(x, side):
    """Half-pixel centres, edges repeated, no antialiasing."""
    n = x.shape[2]
    m = np.zeros((side, n))
    for i in range(side):
        at = max(0.0, (i + 0.5) * n / side - 0.5)
        low = min(int(at), n - 1)
        m[i, low] += 1 - (at - low)
        m[i, min(low + 1, n - 1)] += at - low
    return _along(_along(x, m, 2), m, 3)


def bicubic(x, side):
    """Keys' kernel with a = −0.75, half-pixel centres, edges repeated."""
    n, a = x.shape[2], -0.75

    def kernel(t):
        t = abs(t)
        if t <= 1:
            return ((a + 2) * t - (a + 3)) * t * t + 1
        return (((t - 5) * t + 8) * t - 4) * a if t < 2 else 0.0

    m = np.zeros((side, n))
    for i in range(side):
        at = (i + 0.5) * n / side - 0.5
        low = math.floor(at)
        for j in range(low - 1, low + 3):
            m[i, min(max(j, 0), n - 1)] += kernel(at - j)
    return _along(_along(x, m, 2), m, 3)


def double(state: State) -> State:
    return {key: value.astype(np.float64) for key, value in state.items()}


def finished(x):
    """From the inner range to images: clamped to [−1, 1], then [0, 1]."""
    return (np.clip(x, -1, 1) + 1) / 2


# 1. bsq-vit and npq-vit --------------------------------------------------------------------------------------


def vit_state(family, width, layers, heads, patch, side, d, codebook=None):
    s = Shapes(family)
    pixels, cells = 3 * patch * patch, (side // patch) ** 2
    for part in ("encoder", "decoder"):
        s.put(f"{part}.positional_embedding", cells, width)
        s.norm(f"{part}.ln_pre", width)
        s.norm(f"{part}.ln_post", width)
        for i in range(layers):
            stem = f"{part}.transformer.resblocks.{i}"
            s.norm(f"{stem}.ln_1", width)
            s.norm(f"{stem}.ln_2", width)
            s.put(f"{stem}.attn.in_proj_weight", 3 * width, width)
            s.put(f"{stem}.attn.in_proj_bias", 3 * width, kind="bias")
            s.pair(f"{stem}.attn.out_proj", width, width)
            s.pair(f"{stem}.mlp.c_fc", 4 * width, width)
            s.pair(f"{stem}.mlp.c_proj", width, 4 * width)
    s.put("encoder.conv1.weight", width, pixels)
    s.pair("decoder.ffn.0", 4 * width, width)
    s.pair("decoder.conv_out", pixels, 4 * width)
    s.pair("quant_embed", d, width)
    s.pair("post_quant_embed", width, d)
    if codebook is None:
        s.state["quantize.basis"] = 2 ** np.arange(d - 1, -1, -1)
        s.state["quantize.group_basis"] = 2 ** np.arange(0, -1, -1)
    else:
        s.state["quantize.embedding.weight"] = codebook.astype(np.float32)
    return s.state


def vit(state, images, heads, patch):
    """-> index map (B, h, w), images (B, 3, H, W)."""
    p = double(state)
    b, _, height, width = images.shape
    h, w = height // patch, width // patch
    x = (2 * images - 1).reshape(b, 3, h, patch, w, patch).transpose(0, 2, 4, 1, 3, 5).reshape(b, h * w, -1)

    def blocks(part, x):
        x = x + p[f"{part}.positional_embedding"]
        x = layer_norm(x, p[f"{part}.ln_pre.weight"], p[f"{part}.ln_pre.bias"], 1e-5)
        i = 0
        while f"{part}.transformer.resblocks.{i}.ln_1.weight" in p:
            k = f"{part}.transformer.resblocks.{i}."
            y = layer_norm(x, p[k + "ln_1.weight"], p[k + "ln_1.bias"], 1e-5)
            q, key, v = np.split(y @ p[k + "attn.in_proj_weight"].T + p[k + "attn.in_proj_bias"], 3, -1)
            cut = [t.reshape(b, h * w, heads, -1).transpose(0, 2, 1, 3) for t in (q, key, v)]
            mixed = softmax(cut[0] @ cut[1].transpose(0, 1, 3, 2) / math.sqrt(cut[0].shape[-1])) @ cut[2]
            mixed = mixed.transpose(0, 2, 1, 3).reshape(b, h * w, -1)
            x = x + mixed @ p[k + "attn.out_proj.weight"].T + p[k + "attn.out_proj.bias"]
            y = layer_norm(x, p[k + "ln_2.weight"], p[k + "ln_2.bias"], 1e-5)
            y = gelu_exact(y @ p[k + "mlp.c_fc.weight"].T + p[k + "mlp.c_fc.bias"])
            x = x + y @ p[k + "mlp.c_proj.weight"].T + p[k + "mlp.c_proj.bias"]
            i += 1
        return layer_norm(x, p[f"{part}.ln_post.weight"], p[f"{part}.ln_post.bias"], 1e-5)

    z = blocks("encoder", x @ p["encoder.conv1.weight"].T)
    z = unit(z @ p["quant_embed.weight"].T + p["quant_embed.bias"])
    if "quantize.embedding.weight" in p:
        indices = (z @ p["quantize.embedding.weight"].T).argmax(-1)
        q = p["quantize.embedding.weight"][indices]
    else:
        bits = (z > 0).astype(np.int64)
        indices = (bits * state["quantize.basis"]).sum(-1)
        q = (2 * bits - 1) / math.sqrt(z.shape[-1])
    y = blocks("decoder", q @ p["post_quant_embed.weight"].T + p["post_quant_embed.bias"])
    y = np.tanh(y @ p["decoder.ffn.0.weight"].T + p["decoder.ffn.0.bias"])
    y = y @ p["decoder.conv_out.weight"].T + p["decoder.conv_out.bias"]
    y = y.reshape(b, h, w, 3, patch, patch).transpose(0, 3, 1, 4, 2, 5).reshape(b, 3, height, width)
    return indices.reshape(b, h, w), finished(y)


# 2 to 4. VAR, Infinity-CC, Infinity: encoder and decoder -------------------------------------------------------


def taming_state(s, base, mult, blocks, z, attention, c, n):
    """c and n: what stands after a convolution's and a norm's name (`.conv`, `.norm`, or nothing)."""
    widths = [base * m for m in mult]
    top, last = widths[-1], len(mult) - 1

    def res(stem, inputs, outputs):
        s.norm(f"{stem}.norm1{n}", inputs)
        s.pair(f"{stem}.conv1{c}", outputs, inputs, 3, 3)
        s.norm(f"{stem}.norm2{n}", outputs)
        s.pair(f"{stem}.conv2{c}", outputs, outputs, 3, 3)
        if inputs != outputs:
            s.pair(f"{stem}.nin_shortcut{c}", outputs, inputs, 1, 1)

    def attn(stem):
        s.norm(f"{stem}.norm", top)
        s.pair(f"{stem}.qkv", 3 * top, top, 1, 1)
        s.pair(f"{stem}.proj_out", top, top, 1, 1)

    s.pair(f"encoder.conv_in{c}", base, 3, 3, 3)
    inputs = base
    for level, width in enumerate(widths):
        for i in range(blocks):
            res(f"encoder.down.{level}.block.{i}", inputs, width)
            inputs = width
            if attention and level == last:
                attn(f"encoder.down.{level}.attn.{i}")
        if level < last:
            s.pair(f"encoder.down.{level}.downsample.conv{c}", width, width, 3, 3)
    s.pair(f"decoder.conv_in{c}", top, z, 3, 3)
    inputs = top
    for level in range(last, -1, -1):
        for i in range(blocks + 1):
            res(f"decoder.up.{level}.block.{i}", inputs, widths[level])
            inputs = widths[level]
            if attention and level == last:
                attn(f"decoder.up.{level}.attn.{i}")
        if level > 0:
            s.pair(f"decoder.up.{level}.upsample.conv{c}", inputs, inputs, 3, 3)
    for part in ("encoder", "decoder"):
        res(f"{part}.mid.block_1", top, top)
        if attention:
            attn(f"{part}.mid.attn_1")
        res(f"{part}.mid.block_2", top, top)
    s.norm(f"encoder.norm_out{n}", top)
    s.pair(f"encoder.conv_out{c}", z, top, 3, 3)
    s.norm(f"decoder.norm_out{n}", base * mult[0])
    s.pair(f"decoder.conv_out{c}", 3, base * mult[0], 3, 3)


class Taming:
    def __init__(self, p, c="", n=""):
        self.p, self.c, self.n = p, c, n

    def conv(self, x, stem, pad=1, stride=1, sides=None):
        stem += self.c
        sides = sides or (pad,) * 4
        return conv(x, self.p[stem + ".weight"], self.p.get(stem + ".bias"), stride, sides)

    def norm(self, x, stem):
        stem += self.n
        return group_norm(x, 32, self.p[stem + ".weight"], self.p[stem + ".bias"])

    def res(self, x, stem):
        h = self.conv(swish(self.norm(x, stem + ".norm1")), stem + ".conv1")
        h = self.conv(swish(self.norm(h, stem + ".norm2")), stem + ".conv2")
        if f"{stem}.nin_shortcut{self.c}.weight" in self.p:
            x = self.conv(x, stem + ".nin_shortcut", pad=0)
        return x + h

    def attn(self, x, stem):
        b, c, h, w = x.shape
        y = group_norm(x, 32, self.p[stem + ".norm.weight"], self.p[stem + ".norm.bias"])
        if stem + ".qkv.weight" in self.p:
            q, k, v = np.split(self.conv(y, stem + ".qkv", pad=0).reshape(b, 3 * c, h * w), 3, 1)
        else:
            q, k, v = (self.conv(y, f"{stem}.{part}", pad=0).reshape(b, c, h * w) for part in "qkv")
        weights = softmax(q.transpose(0, 2, 1) @ k / math.sqrt(c))
        mixed = (weights @ v.transpose(0, 2, 1)).transpose(0, 2, 1).reshape(b, c, h, w)
        return x + self.conv(mixed, stem + ".proj_out", pad=0)

    def maybe_attn(self, x, stem):
        return self.attn(x, stem) if f"{stem}.norm.weight" in self.p else x

    def row(self, x, stem, blocks="block", attns="attn"):
        i = 0
        while f"{stem}.{blocks}.{i}.norm1{self.n}.weight" in self.p:
            x = self.maybe_attn(self.res(x, f"{stem}.{blocks}.{i}"), f"{stem}.{attns}.{i}")
            i += 1
        return x

    def down(self, x, stem):
        return self.conv(x, stem + ".downsample.conv", stride=2, sides=(0, 1, 0, 1))

    def up(self, x, stem):
        return self.conv(x.repeat(2, 2).repeat(2, 3), stem + ".upsample.conv")

    def middle(self, x, part):
        x = self.maybe_attn(self.res(x, f"{part}.mid.block_1"), f"{part}.mid.attn_1")
        return self.res(x, f"{part}.mid.block_2")

    def encode(self, images, levels):
        x = self.conv(2 * images - 1, "encoder.conv_in")
        for level in range(levels):
            x = self.row(x, f"encoder.down.{level}")
            if level < levels - 1:
                x = self.down(x, f"encoder.down.{level}")
        x = self.middle(x, "encoder")
        return self.conv(swish(self.norm(x, "encoder.norm_out")), "encoder.conv_out")

    def decode(self, z, levels):
        x = self.middle(self.conv(z, "decoder.conv_in"), "decoder")
        for level in range(levels - 1, -1, -1):
            x = self.row(x, f"decoder.up.{level}")
            if level:
                x = self.up(x, f"decoder.up.{level}")
        return self.conv(swish(self.norm(x, "decoder.norm_out")), "decoder.conv_out")


def residual(z, scales, search, up, phi=None):
    """-> index maps, partial sums at full resolution."""
    rest, total, maps, sums = z, 0, [], []
    side = z.shape[2]
    for i, s in enumerate(scales):
        down = area(rest, s) if s != side else rest
        indices, vectors = search(down.transpose(0, 2, 3, 1))
        h = vectors.transpose(0, 3, 1, 2)
        h = up(h, side) if s != side else h
        if phi:
            h = phi(h, i)
        rest, total = rest - h, total + h
        maps.append(indices)
        sums.append(total)
    return maps, sums


VAR_PHI = (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)


def var_state(base, mult, z, size, scales):
    s = Shapes("var-tokenizer")
    taming_state(s, base, mult, 2, z, True, "", "")
    s.pair("quant_conv", z, z, 3, 3)
    s.pair("post_quant_conv", z, z, 3, 3)
    s.put("quantize.embedding.weight", size, z, kind="plain")
    for i in range(4):
        s.pair(f"quantize.quant_resi.qresi_ls.{i}", z, z, 3, 3)
    s.state["quantize.ema_vocab_hit_SV"] = np.zeros((len(scales), size), np.float32)
    return s.state


def var(state, images, scales, levels):
    p = double(state)
    net, book = Taming(p), p["quantize.embedding.weight"]
    z = net.conv(net.encode(images, levels), "quant_conv")

    def search(x):
        indices = ((x**2).sum(-1, keepdims=True) + (book**2).sum(-1) - 2 * x @ book.T).argmin(-1)
        return indices, book[indices]

    def phi(h, i):
        return 0.5 * h + 0.5 * net.conv(h, f"quantize.quant_resi.qresi_ls.{VAR_PHI[i]}")

    maps, sums = residual(z, scales, search, bicubic, phi)
    return maps, sums, finished(net.decode(net.conv(sums[-1], "post_quant_conv"), levels))


def infinity_state(family, base, mult, z, codebook=None):
    s = Shapes(family)
    taming_state(s, base, mult, 2, z, False, ".conv", ".norm")
    for alias in ("quantizer", "quantize"):
        if codebook is None:
            with np.errstate(over="ignore"):
                s.state[f"{alias}.lfq.mask"] = np.int64(2) ** np.arange(z - 1, -1, -1)
        else:
            s.state[f"{alias}.lfq.embedding.weight"] = codebook.astype(np.float32)
    return s.state


def infinity(state, images, scales, levels):
    """-> index maps (Λ24) or bit maps with coordinate 0 first (BSQ), partial sums, images."""
    p = double(state)
    net = Taming(p, ".conv", ".norm")
    z = net.encode(images, levels)

    def search(x):
        if "quantizer.lfq.embedding.weight" in p:
            book = p["quantizer.lfq.embedding.weight"]
            indices = (x @ book.T).argmax(-1)
            return indices, book[indices]
        bits = (x > 0).astype(np.int64)
        return bits, (2 * bits - 1) / math.sqrt(x.shape[-1])

    maps, sums = residual(z, scales, search, bilinear)
    return maps, sums, finished(net.decode(sums[-1], levels))


# 5 and 6. Open-MAGVIT2, SimVQ ----------------------------------------------------------------------------------


def magvit_state(family, base, mult, blocks, z, adaptive):
    s = Shapes(family)
    widths = [base * m for m in mult]
    top, last = widths[-1], len(mult) - 1

    def res(stem, inputs, outputs):
        s.norm(f"{stem}.norm1", inputs)
        s.norm(f"{stem}.norm2", outputs)
        s.put(f"{stem}.conv1.weight", outputs, inputs, 3, 3)
        s.put(f"{stem}.conv2.weight", outputs, outputs, 3, 3)
        if inputs != outputs:
            s.put(f"{stem}.nin_shortcut.weight", outputs, inputs, 1, 1)

    s.put("encoder.conv_in.weight", base, 3, 3, 3)
    inputs = base
    for level, width in enumerate(widths):
        for i in range(blocks):
            res(f"encoder.down.{level}.block.{i}", inputs, width)
            inputs = width
        if level < last:
            s.pair(f"encoder.down.{level}.downsample", width, width, 3, 3)
    s.norm("encoder.norm_out", top)
    s.pair("encoder.conv_out", z, top, 1, 1)
    s.pair("decoder.conv_in", top, z, 3, 3)
    for part in ("encoder", "decoder"):
        for i in range(blocks):
            res(f"{part}.mid_block.{i}", top, top)
    inputs = top
    for level in range(last, -1, -1):
        if adaptive:
            s.pair(f"decoder.adaptive.{level}.gamma", inputs, z)
            s.pair(f"decoder.adaptive.{level}.beta", inputs, z)
        for i in range(blocks):
            res(f"decoder.up.{level}.block.{i}", inputs, widths[level])
            inputs = widths[level]
        if level:
            s.pair(f"decoder.up.{level}.upsample.conv1", 4 * inputs, inputs, 3, 3)
    s.norm("decoder.norm_out", widths[0])
    s.pair("decoder.conv_out", 3, widths[0], 3, 3)
    return s


def with_average(s, frozen=()):
    """Adds the moving averages that the authors evaluate: other values than the raw ones, names without dots."""
    average = Shapes(s.family + " average")
    for key, value in s.state.items():
        if key not in frozen:
            kind = "norm" if ".norm" in key and key.endswith("weight") else "weight" if value.ndim > 1 else "bias"
            average.put(key, *value.shape, kind=kind)
    merged = dict(s.state)
    merged.update({"model_ema." + key.replace(".", ""): value for key, value in average.state.items()})
    merged["model_ema.decay"] = np.float32(0.999)
    merged["model_ema.num_updates"] = np.int32(7)
    merged["loss.discriminator.main.0.weight"] = np.zeros((2, 2), np.float32)
    return merged, {**s.state, **average.state}


class Magvit(Taming):
    def encode(self, images, levels):
        x = self.conv(2 * images - 1, "encoder.conv_in")
        for level in range(levels):
            x = self.row(x, f"encoder.down.{level}")
            if level < levels - 1:
                x = self.conv(x, f"encoder.down.{level}.downsample", stride=2)
        x = self.row(x, "encoder", blocks="mid_block")
        return self.conv(swish(self.norm(x, "encoder.norm_out")), "encoder.conv_out", pad=0)

    def decode(self, z, levels):
        b, d = z.shape[:2]
        x = self.row(self.conv(z, "decoder.conv_in"), "decoder", blocks="mid_block")
        for level in range(levels - 1, -1, -1):
            stem = f"decoder.adaptive.{level}"
            if stem + ".gamma.weight" in self.p:
                flat = z.reshape(b, d, -1)
                std = np.sqrt(flat.var(2, ddof=1) + 1e-6)
                gamma = std @ self.p[stem + ".gamma.weight"].T + self.p[stem + ".gamma.bias"]
                beta = flat.mean(2) @ self.p[stem + ".beta.weight"].T + self.p[stem + ".beta.bias"]
                x = gamma[..., None, None] * group_norm(x) + beta[..., None, None]
            x = self.row(x, f"decoder.up.{level}")
            if level:
                x = self.conv(x, f"decoder.up.{level}.upsample.conv1")
                _, c, h, w = x.shape
                big = np.zeros((b, c // 4, 2 * h, 2 * w))
                for i, j in itertools.product(range(2), range(2)):
                    start = (2 * i + j) * (c // 4)
                    big[:, :, i::2, j::2] = x[:, start : start + c // 4]
                x = big
        return self.conv(swish(self.norm(x, "decoder.norm_out")), "decoder.conv_out")


def open_magvit2(weights, images, levels):
    net = Magvit(double(weights))
    z = net.encode(images, levels)
    bits = (z > 0).astype(np.int64)
    indices = (bits * (2 ** np.arange(z.shape[1]))[:, None, None]).sum(1)
    return indices, finished(net.decode(2.0 * bits - 1, levels))


def simvq(weights, images, levels):
    p = double(weights)
    net = Magvit(p)
    book = p["quantize.embedding.weight"] @ p["quantize.embedding_proj.weight"].T + p["quantize.embedding_proj.bias"]
    z = net.encode(images, levels).transpose(0, 2, 3, 1)
    indices = ((z[..., None, :] - book) ** 2).sum(-1).argmin(-1)
    return indices, finished(net.decode(book[indices].transpose(0, 3, 1, 2), levels))


# 7. LlamaGen -----------------------------------------------------------------------------------------------------


def llamagen_state(base, mult, z, dim, size):
    s = Shapes("llamagen")
    widths = [base * m for m in mult]
    top, last = widths[-1], len(mult) - 1

    def res(stem, inputs, outputs):
        s.norm(f"{stem}.norm1", inputs)
        s.pair(f"{stem}.conv1", outputs, inputs, 3, 3)
        s.norm(f"{stem}.norm2", outputs)
        s.pair(f"{stem}.conv2", outputs, outputs, 3, 3)
        if inputs != outputs:
            s.pair(f"{stem}.nin_shortcut", outputs, inputs, 1, 1)

    def attn(stem):
        s.norm(f"{stem}.norm", top)
        for part in ("q", "k", "v", "proj_out"):
            s.pair(f"{stem}.{part}", top, top, 1, 1)

    s.pair("encoder.conv_in", base, 3, 3, 3)
    s.pair("decoder.conv_in", top, z, 3, 3)
    inputs = base
    for level, width in enumerate(widths):
        for i in range(2):
            res(f"encoder.conv_blocks.{level}.res.{i}", inputs, width)
            inputs = width
            if level == last:
                attn(f"encoder.conv_blocks.{level}.attn.{i}")
        if level < last:
            s.pair(f"encoder.conv_blocks.{level}.downsample.conv", width, width, 3, 3)
    for place, width in enumerate(reversed(widths)):
        for i in range(3):
            res(f"decoder.conv_blocks.{place}.res.{i}", inputs, width)
            inputs = width
            if place == 0:
                attn(f"decoder.conv_blocks.{place}.attn.{i}")
        if place < last:
            s.pair(f"decoder.conv_blocks.{place}.upsample.conv", width, width, 3, 3)
    for part in ("encoder", "decoder"):
        res(f"{part}.mid.0", top, top)
        attn(f"{part}.mid.1")
        res(f"{part}.mid.2", top, top)
    s.norm("encoder.norm_out", top)
    s.pair("encoder.conv_out", z, top, 3, 3)
    s.norm("decoder.norm_out", widths[0])
    s.pair("decoder.conv_out", 3, widths[0], 3, 3)
    s.pair("quant_conv", dim, z, 1, 1)
    s.pair("post_quant_conv", z, dim, 1, 1)
    s.put("quantize.embedding.weight", size, dim, kind="plain")
    s.state["quantize.codebook_used"] = np.zeros(65536, np.float32)
    return s.state


def llamagen(state, images, levels):
    p = double(state)
    net = Taming(p)

    def middle(x, part):
        x = net.attn(net.res(x, f"{part}.mid.0"), f"{part}.mid.1")
        return net.res(x, f"{part}.mid.2")

    x = net.conv(2 * images - 1, "encoder.conv_in")
    for level in range(levels):
        x = net.row(x, f"encoder.conv_blocks.{level}", "res")
        if level < levels - 1:
            x = net.down(x, f"encoder.conv_blocks.{level}")
    x = net.conv(swish(net.norm(middle(x, "encoder"), "encoder.norm_out")), "encoder.conv_out")
    z = unit(net.conv(x, "quant_conv", pad=0).transpose(0, 2, 3, 1))
    book = unit(p["quantize.embedding.weight"])
    indices = ((z[..., None, :] - book) ** 2).sum(-1).argmin(-1)
    x = net.conv(book[indices].transpose(0, 3, 1, 2), "post_quant_conv", pad=0)
    x = middle(net.conv(x, "decoder.conv_in"), "decoder")
    for place in range(levels):
        x = net.row(x, f"decoder.conv_blocks.{place}", "res")
        if place < levels - 1:
            x = net.up(x, f"decoder.conv_blocks.{place}")
    return indices, finished(net.conv(swish(net.norm(x, "decoder.norm_out")), "decoder.conv_out"))


# Transformers ------------------------------------------------------------------------------------------------------


def transformer_state(family, depth, c, heads, hidden, z, size, classes, levels, shared, block, positions=0):
    s = Shapes(family)
    s.put("class_emb.weight", classes + 1, c, kind="plain")
    s.put("pos_start", 1, 1, c, kind="plain")
    s.put("lvl_embed.weight", levels, c, kind="plain")
    if positions:
        s.put("pos_1LC", 1, positions, c, kind="plain")
    s.pair("word_embed", c, z)
    if shared:
        s.pair("shared_ada_lin.1", 6 * c, c)
    for i in range(depth):
        stem = block(i)
        if shared:
            s.put(f"{stem}.ada_gss", 1, 1, 6, c, kind="bias")
        else:
            s.pair(f"{stem}.ada_lin.1", 6 * c, c)
        s.put(f"{stem}.attn.mat_qkv.weight", 3 * c, c)
        s.put(f"{stem}.attn.q_bias", c, kind="bias")
        s.put(f"{stem}.attn.v_bias", c, kind="bias")
        s.state[f"{stem}.attn.zero_k_bias"] = np.zeros(c, np.float32)
        s.put(f"{stem}.attn.scale_mul_1H11", 1, heads, 1, 1, kind="norm")
        s.pair(f"{stem}.attn.proj", c, c)
        s.pair(f"{stem}.ffn.fc1", hidden, c)
        s.pair(f"{stem}.ffn.fc2", c, hidden)
    s.pair("head_nm.ada_lin.1", 2 * c, c)
    s.pair("head", size, c)
    return s.state


def rotary(q, scales, grid=64):
    """q (B, heads, L, D): pairs (2i, 2i + 1); first half of the head dimension by row, second by column."""
    d = q.shape[-1]
    out = q.copy()
    token = 0
    for s in scales:
        at = [round(grid * i / s) for i in range(s)]
        for row, column in itertools.product(at, at):
            for j in range(d // 4):
                frequency = 10000.0 ** (-2 * j / (d / 2))
                for place, first in ((row, 2 * j), (column, d // 2 + 2 * j)):
                    cos, sin = math.cos(place * frequency), math.sin(place * frequency)
                    a, b = q[:, :, token, first], q[:, :, token, first + 1]
                    out[:, :, token, first] = cos * a - sin * b
                    out[:, :, token, first + 1] = sin * a + cos * b
            token += 1
    return out


def transformer(state, row, inputs, scales, heads, block, depth, rotates):
    """row: rows of the class embedding (B,); inputs (B, L − 1, z) -> logits (B, L, K)."""
    p = double(state)
    b = len(row)
    condition = p["class_emb.weight"][row]
    first = condition[:, None] + p["pos_start"]
    x = np.concatenate([first, inputs @ p["word_embed.weight"].T + p["word_embed.bias"]], 1)
    level = np.concatenate([np.full(s * s, i) for i, s in enumerate(scales)])
    x = x + p["lvl_embed.weight"][level]
    if "pos_1LC" in p:
        x = x + p["pos_1LC"]
    c, length = x.shape[-1], x.shape[1]
    allowed = level[:, None] >= level[None]

    for i in range(depth):
        stem = block(i)
        if stem + ".ada_gss" in p:
            rows = swish(condition) @ p["shared_ada_lin.1.weight"].T + p["shared_ada_lin.1.bias"]
            rows = p[stem + ".ada_gss"][:, 0] + rows.reshape(b, 6, c)
        else:
            rows = swish(condition) @ p[stem + ".ada_lin.1.weight"].T + p[stem + ".ada_lin.1.bias"]
            rows = rows.reshape(b, 6, c)
        gamma1, gamma2, scale1, scale2, shift1, shift2 = (rows[:, j][:, None] for j in range(6))
        y = layer_norm(x) * (1 + scale1) + shift1
        bias = np.concatenate([p[f"{stem}.attn.{part}"] for part in ("q_bias", "zero_k_bias", "v_bias")])
        q, k, v = np.split(y @ p[stem + ".attn.mat_qkv.weight"].T + bias, 3, -1)
        q, k, v = (t.reshape(b, length, heads, c // heads).transpose(0, 2, 1, 3) for t in (q, k, v))
        q = unit(q) * np.exp(np.minimum(p[stem + ".attn.scale_mul_1H11"], math.log(100)))
        k = unit(k)
        if rotates:
            q, k = rotary(q, scales), rotary(k, scales)
        weights = softmax(np.where(allowed, q @ k.transpose(0, 1, 3, 2), -np.inf))
        mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(b, length, c)
        x = x + gamma1 * (mixed @ p[stem + ".attn.proj.weight"].T + p[stem + ".attn.proj.bias"])
        y = layer_norm(x) * (1 + scale2) + shift2
        y = gelu_tanh(y @ p[stem + ".ffn.fc1.weight"].T + p[stem + ".ffn.fc1.bias"])
        x = x + gamma2 * (y @ p[stem + ".ffn.fc2.weight"].T + p[stem + ".ffn.fc2.bias"])
    rows = swish(condition) @ p["head_nm.ada_lin.1.weight"].T + p["head_nm.ada_lin.1.bias"]
    scale, shift = (rows.reshape(b, 2, c)[:, j][:, None] for j in range(2))
    return (layer_norm(x) * (1 + scale) + shift) @ p["head.weight"].T + p["head.bias"]


def next_inputs(sums, scales, down):
    """Partial sums -> (B, L − 1, z)."""
    side = scales[-1]
    maps = [down(total, s) if s != side else total for total, s in zip(sums, scales[1:], strict=False)]
    return np.concatenate([m.reshape(*m.shape[:2], -1).transpose(0, 2, 1) for m in maps], 1)


# The released Leech codebook: first rows of class 2 -------------------------------------------------------------------


def leech_rows(count):
    """Rows are sign-major: for each even sign pattern all 759 octads of the lexicode, ascending; divided by √32."""
    basis = [0xFF, 0xF0F, 0x3333, 0x5555, 0x9669, 0x30356, 0x50563, 0x9063A, 0x111178, 0x21121D, 0x41144E, 0x811724]
    words = {0}
    for word in basis:
        words |= {w ^ word for w in words}
    octads = sorted(tuple(i for i in range(24) if w >> (23 - i) & 1) for w in words if w.bit_count() == 8)
    rows = []
    for signs in itertools.product((-2, 2), repeat=8):
        if signs.count(-2) % 2 == 0:
            for octad in octads:
                row = np.zeros(24)
                row[list(octad)] = signs
                rows.append(row)
                if len(rows) == count:
                    return np.array(rows) / math.sqrt(32)
    raise ValueError("class 2 has 97,152 rows")
