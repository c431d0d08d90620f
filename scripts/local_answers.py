"""Answers of a model that transformers runs here, on a GPU if there is one, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from contextpilot.bench.prompts import Prompt


class LocalModel:
    """A causal model of a folder, in bfloat16. Needs torch and transformers."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        self._model: Any = model.to(self._device).eval()
        ends = self._model.generation_config.eos_token_id
        self._ends: list[int] = ends if isinstance(ends, list) else [ends]

    def answers(
        self, prompts: Sequence[Prompt], at_once: int, most_tokens: int
    ) -> Iterator[tuple[Prompt, str]]:
        """Yield each prompt with its greedy answer, prompts of like length together."""
        rows = [(self._tokens(prompt), prompt) for prompt in prompts]
        rows.sort(key=lambda row: len(row[0]))
        for start in range(0, len(rows), at_once):
            together = rows[start : start + at_once]
            answers = self._generate([tokens for tokens, _ in together], most_tokens)
            yield from zip((prompt for _, prompt in together), answers, strict=True)

    def _tokens(self, prompt: Prompt) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            list(prompt.messages), tokenize=False, add_generation_prompt=True
        )
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    def _generate(self, prompts: Sequence[list[int]], most_tokens: int) -> Iterator[str]:
        torch, pad, width = self._torch, self._ends[0], max(map(len, prompts))
        with torch.inference_mode():
            sequences = self._model.generate(
                torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=self._device),
                attention_mask=torch.tensor(
                    [[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._device
                ),
                do_sample=False,
                max_new_tokens=most_tokens,
                eos_token_id=self._ends,
                pad_token_id=pad,
            )
        for sequence in sequences[:, width:].tolist():
            count = next((i for i, t in enumerate(sequence) if t in self._ends), len(sequence))
            yield self._tokenizer.decode(sequence[:count], skip_special_tokens=True)
