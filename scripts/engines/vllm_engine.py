"""A real vLLM scheduler of any version, without model and device: what the tests drive."""

from __future__ import annotations

import hashlib
import inspect
import pickle
import types
from collections.abc import Callable
from typing import Any

BLOCK = 16


class Config:
    """A configuration with the given fields; all others are None."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class _Tokens(list):  # type: ignore[type-arg]
    """Sampled tokens; 0.11 has arrays here."""

    def tolist(self) -> list[int]:
        return list(self)


def call(function: Any, **known: Any) -> Any:
    """Call with those of `known` that `function` takes."""
    parameters = inspect.signature(function).parameters
    return function(**{name: value for name, value in known.items() if name in parameters})


def _hash(value: object) -> bytes:
    return hashlib.sha256(pickle.dumps(value, 5)).digest()


class VllmEngine:
    """Prompts in, one output token per step out, over `blocks` cache blocks of 16 tokens.

    specs: the layers, one of `LAYERS`. retention: vLLM's flag of that name (0.24 on).
    """

    def __init__(
        self,
        blocks: int,
        caching: bool = True,
        layers: str = "full",
        eagle: bool = False,
        retention: int | None = None,
        **parallel: Any,
    ) -> None:
        import vllm.v1.core.kv_cache_utils as utils
        import vllm.v1.core.sched.scheduler as module
        import vllm.v1.kv_cache_interface as interface

        self.sampled = 0
        if hasattr(utils, "init_none_hash"):
            utils.init_none_hash(_hash)
        self._hasher = utils.get_request_block_hasher(BLOCK, _hash) if caching else None
        groups = [
            interface.KVCacheGroupSpec(layer_names=[f"layer.{number}"], kv_cache_spec=spec)
            for number, spec in enumerate(LAYERS[layers](interface))
        ]
        sizes = [group.kv_cache_spec.block_size for group in groups]
        is_told_hashes = "hash_block_size" in inspect.signature(module.Scheduler).parameters
        block = max(sizes) if is_told_hashes else BLOCK
        cache = call(
            interface.KVCacheConfig,
            num_blocks=blocks,
            kv_cache_tensors=[],
            kv_cache_groups=groups,
            prefix_cache_retention_interval=retention,
        )
        self.scheduler = call(
            module.Scheduler,
            vllm_config=_config(blocks, caching, eagle, parallel),
            kv_cache_config=cache,
            structured_output_manager=types.SimpleNamespace(
                should_advance=lambda *_, **__: False,
                accept_tokens=lambda *_, **__: True,
                should_fill_bitmask=lambda *_, **__: False,
            ),
            block_size=block,
            hash_block_size=BLOCK,
        )

    @property
    def pool(self) -> Any:
        return self.scheduler.kv_cache_manager.block_pool

    def add(self, request_id: str, tokens: list[int], outputs: int = 1) -> Any:
        """Queue one request; returns vLLM's Request."""
        request = self._request(request_id, tokens, outputs)
        self.scheduler.add_request(request)
        return request

    def _request(self, request_id: str, tokens: list[int], outputs: int) -> Any:
        from vllm.v1.request import Request

        return call(
            Request,
            request_id=request_id,
            prompt_token_ids=tokens,
            sampling_params=_sampling(outputs),
            pooling_params=None,
            eos_token_id=-1,
            arrival_time=0.0,
            block_hasher=self._hasher,
        )

    def step(self) -> dict[str, int]:
        """One scheduled step; returns the tokens computed per request."""
        from vllm.v1.outputs import ModelRunnerOutput

        planned = self.scheduler.schedule()
        scheduled = dict(planned.num_scheduled_tokens)
        names = list(scheduled)
        output = call(
            ModelRunnerOutput,
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=[self._sample(name) for name in names],
            logprobs=None,
            prompt_logprobs_dict={},
            pooler_output=[],
            spec_token_ids=None,
        )
        self.scheduler.update_from_output(planned, output)
        return scheduled

    def reusable(self, tokens: list[int]) -> int:
        """What the engine itself would take from its cache for this prompt, without running it."""
        self.sampled += 1
        request = self._request(f"asked-{self.sampled}", tokens, 1)
        return int(self.scheduler.kv_cache_manager.get_computed_blocks(request)[1])

    def _sample(self, name: str) -> list[int]:
        request = self.scheduler.requests[name]
        if request.num_computed_tokens < request.num_tokens:
            return _Tokens()
        self.sampled += 1
        return _Tokens([1_000_000 + self.sampled])

    def run(self, request_id: str, tokens: list[int], outputs: int = 1) -> int:
        """One request from start to end; returns how many of its tokens were cached."""
        computed = 0
        self.add(request_id, tokens, outputs)
        for _ in range(len(tokens) + outputs):
            computed += self.step().get(request_id, 0)
            if not self.scheduler.has_unfinished_requests():
                break
        else:
            request = self.scheduler.requests[request_id]
            raise RuntimeError(f"{request_id} does not end: {vars(request)}")
        return len(tokens) + outputs - 1 - computed


def _attention(interface: Any, kind: str, block: int = BLOCK, **more: Any) -> Any:
    import torch

    shape = {"block_size": block, "num_kv_heads": 1, "head_size": 8, "dtype": torch.float32}
    return call(getattr(interface, kind), **shape, use_mla=False, **more)


def _full(interface: Any) -> Any:
    return _attention(interface, "FullAttentionSpec")


def _window(interface: Any, block: int = BLOCK) -> Any:
    return _attention(interface, "SlidingWindowSpec", block, sliding_window=100)


def _chunks(interface: Any) -> Any:
    return _attention(interface, "ChunkedLocalAttentionSpec", attention_chunk_size=128)


def _states(interface: Any) -> Any:
    import torch

    return call(
        interface.MambaSpec,
        block_size=BLOCK,
        shapes=((8, 8),),
        dtypes=(torch.float32,),
        mamba_cache_mode="align",
    )


LAYERS: dict[str, Callable[[Any], list[Any]]] = {
    "full": lambda kinds: [_full(kinds)],
    "window": lambda kinds: [_full(kinds), _window(kinds)],
    "all-window": lambda kinds: [_window(kinds)],
    "long-window": lambda kinds: [_full(kinds), _window(kinds, 2 * BLOCK)],
    "chunked": lambda kinds: [_full(kinds), _chunks(kinds)],
    "states": lambda kinds: [_full(kinds), _states(kinds)],
    "all": lambda kinds: [_full(kinds), _window(kinds), _chunks(kinds), _states(kinds)],
}
"""Layers of a model by name: what full attention is combined with."""


def _sampling(outputs: int) -> Any:
    return Config(
        max_tokens=outputs,
        min_tokens=0,
        n=1,
        bad_words=[],
        stop_token_ids=[],
        all_stop_token_ids=set(),
        eos_token_id=-1,
        ignore_eos=True,
    )


def _speculative() -> Config:
    """EAGLE's; nothing is drafted, as there is no model."""
    yes, no = (lambda: True), (lambda: False)
    return Config(
        method="eagle",
        num_speculative_tokens=1,
        max_num_new_slots_for_drafting=0,
        use_eagle=yes,
        use_eagle_block_drop=yes,
        needs_eagle_block_drop=yes,
        uses_draft_model=no,
        uses_extract_hidden_states=no,
        use_ngram_gpu=no,
        use_dflash=no,
        use_dspark=no,
        use_multi_module_mtp=no,
    )


def _config(blocks: int, caching: bool, eagle: bool, parallel: dict[str, Any]) -> Config:
    return Config(
        scheduler_config=Config(
            max_num_seqs=16,
            max_num_batched_tokens=512,
            max_model_len=blocks * BLOCK,
            prefill_schedule_interval=1,
            max_num_scheduled_tokens=512,
            max_num_encoder_input_tokens=0,
            encoder_cache_size=0,
            long_prefill_token_threshold=0,
            policy="fcfs",
            enable_chunked_prefill=True,
            chunked_prefill_enabled=True,
            watermark=0.0,
        ),
        cache_config=Config(
            num_gpu_blocks=blocks,
            enable_prefix_caching=caching,
            block_size=BLOCK,
            prefix_caching_hash_algo="sha256",
            mamba_cache_mode="align",
        ),
        model_config=Config(max_model_len=blocks * BLOCK, is_encoder_decoder=False),
        speculative_config=_speculative() if eagle else None,
        parallel_config=Config(
            **{
                "decode_context_parallel_size": 1,
                "prefill_context_parallel_size": 1,
                "pipeline_parallel_size": 1,
                "data_parallel_size": 1,
                "data_parallel_rank": 0,
                "data_parallel_index": 0,
                **parallel,
            }
        ),
        observability_config=Config(),
        aux_output_config=Config(),
        ec_manager_config=Config(get_encoder_cache_manager_obj=lambda: None),
        num_speculative_tokens=0,
        num_lookahead_tokens=0,
        num_hash_lookahead_tokens=0,
        num_prefill_lookahead_tokens=0,
        max_concurrent_batches=1,
    )
