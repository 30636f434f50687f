from __future__ import annotations

import torch
from rlkit_hf.row_cache import RowCache

LAYERS, HEADS, KEY, VALUE = 2, 2, 4, 6


class Story:
    """Drives a cache with random keys and values, and remembers what each row should hold."""

    def __init__(self, budget: int = 10_000) -> None:
        self.cache = RowCache(LAYERS, budget)
        self.expected: dict[object, tuple[torch.Tensor, torch.Tensor]] = {}
        self.generator = torch.Generator().manual_seed(0)

    def enter(self, row: str, length: int, *more: str) -> bool:
        return self.cache.enter(list(range(length)), [row, *more])

    def run(self) -> None:
        order = self.cache.order()
        entered = [row for row in order if row not in self.expected]
        present = [row for row in order if row in self.expected]
        self.cache.begin(torch.float32, torch.device("cpu"))
        tokens = len(present) + sum(part.end - part.start for part in self.cache.prefill_parts)
        keys = torch.randn(1, HEADS, tokens, KEY, generator=self.generator)
        values = torch.randn(1, HEADS, tokens, VALUE, generator=self.generator)
        for layer in range(LAYERS):
            self.cache.update(keys + layer, values + layer, layer)
        for number, row in enumerate(present):
            old_keys, old_values = self.expected[row]
            self.expected[row] = (
                torch.cat([old_keys, keys[0, :, number : number + 1]], 1),
                torch.cat([old_values, values[0, :, number : number + 1]], 1),
            )
        for part in self.cache.prefill_parts:
            for number, entry in enumerate(part.entries):
                start = part.start + number * part.length
                end = start + len(entry.token_ids)
                for row in entry.bin.rows[entry.slot : entry.slot + entry.count]:
                    assert row in entered
                    self.expected[row] = keys[0, :, start:end], values[0, :, start:end]
        self.cache.end()

    def remove(self, *rows: str) -> None:
        self.cache.remove(rows)
        for row in rows:
            del self.expected[row]

    def check(self) -> None:
        """Every row holds what was written for it, in all layers."""
        found = {}
        for b in self.cache.bins:
            for slot, (row, length) in enumerate(zip(b.rows, b.lengths, strict=True)):
                for layer in range(LAYERS):
                    keys, values = self.expected[row]
                    assert torch.equal(b.keys[layer][slot, :, :, :length], (keys + layer).transpose(1, 2)), row
                    assert torch.equal(b.values[layer][slot, :, :, :length], (values + layer).transpose(1, 2)), row
                found[row] = length
        assert found == {row: keys.shape[1] for row, (keys, _) in self.expected.items()}


def test_rows_of_many_lengths_keep_their_content_through_growth_entry_and_departure() -> None:
    story = Story()
    for number in range(12):
        assert story.enter(f"a{number}", 5 + 9 * number)
    story.run()
    story.check()
    for step in range(40):
        assert story.cache.make_room()
        if step == 10:
            story.remove("a0", "a5", "a11", "a6")
        if step == 20:
            assert story.enter("b0", 31, "b1", "b2")
            assert story.enter("c0", 100)
        story.run()
        story.check()
    story.remove(*list(story.expected))
    assert story.cache.allocated_tokens == 0
    assert not any(b.keys or b.values for b in story.cache.bins)


def test_a_step_attends_to_no_more_columns_than_its_bin_holds() -> None:
    story = Story()
    story.enter("short", 5)
    story.enter("long", 300)
    story.run()
    story.cache.make_room()
    story.cache.begin(torch.float32, torch.device("cpu"))
    assert [part.columns for part in story.cache.decode_parts] == [6, 301]
    assert [(part.mask == 0).sum().item() for part in story.cache.decode_parts] == [6, 301]


def test_free_columns_are_zero_so_that_masked_garbage_cannot_spread() -> None:
    story = Story()
    story.enter("a", 20, "b")
    story.run()
    used = next(b for b in story.cache.bins if b.rows)
    assert used.capacity > 20
    for layer in range(LAYERS):
        assert not used.values[layer][:, :, :, 20:].any()
        assert not used.keys[layer][:, :, :, 20:].any()


def test_prompts_of_nearly_one_length_are_prefilled_together_with_little_padding() -> None:
    story = Story()
    for number, length in enumerate([100, 52, 97, 88, 50, 10]):
        story.enter(str(number), length)
    story.cache.begin(torch.float32, torch.device("cpu"))
    lengths = [[len(entry.token_ids) for entry in part.entries] for part in story.cache.prefill_parts]
    assert lengths == [[100, 97, 88], [52, 50], [10]]


def test_what_is_allocated_stays_within_the_budget_and_free_slots_are_given_up_first() -> None:
    story = Story(budget=400)
    assert story.enter("a", 60, "b", "c")  # bin of 64, with a slot to spare
    assert story.cache.allocated_tokens <= 400
    assert story.enter("d", 100)  # bin of 104 or more: does not fit beside the spare slot
    story.run()
    assert not story.enter("e", 100)
    story.check()
    while story.cache.make_room():
        story.run()
        story.check()
        assert story.cache.allocated_tokens <= 400
    story.remove("c")
    assert story.cache.make_room()
    story.run()
    story.check()
    assert story.cache.allocated_tokens <= 400


def test_a_row_that_is_alone_may_exceed_the_budget_when_forced() -> None:
    story = Story(budget=10)
    assert not story.enter("a", 60)
    assert story.cache.enter(list(range(60)), ["a"], force=True)
    story.run()
    for _ in range(10):
        assert story.cache.make_room(force=True)
        story.run()
    story.check()


def test_unused_memory_is_given_back_as_rows_leave() -> None:
    story = Story()
    story.enter("a", 40, *(f"s{number}" for number in range(63)))
    story.run()
    before = story.cache.allocated_tokens
    story.remove(*(f"s{number}" for number in range(63)))
    story.cache.make_room()
    assert story.cache.allocated_tokens <= before / 8
    story.check()
