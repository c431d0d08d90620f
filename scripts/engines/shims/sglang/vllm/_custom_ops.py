"""Rotary position embedding in plain PyTorch, in place, as the compiled operation does it."""


def rotary_embedding(positions, query, key, head_size, cos_sin_cache, is_neox):
    """Rotate the first `cos_sin_cache.shape[-1]` dimensions of each head of query and key.

    positions: [tokens]; query and key: [tokens, heads * head_size] or None;
    cos_sin_cache: [positions, rotated dimensions], cosines first.
    """
    cosine, sine = cos_sin_cache[positions.reshape(-1)].float().unsqueeze(1).chunk(2, dim=-1)
    half = cosine.shape[-1]
    for tensor in (query, key):
        if tensor is None:
            continue
        heads = tensor.view(tensor.shape[0], -1, head_size)
        rotated = heads[..., : 2 * half]
        if is_neox:
            first, second = rotated[..., :half], rotated[..., half:]
        else:
            first, second = rotated[..., 0::2], rotated[..., 1::2]
        a, b = first.float(), second.float()
        first.copy_(a * cosine - b * sine)
        second.copy_(b * cosine + a * sine)
