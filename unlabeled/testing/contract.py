"""The contract: every rule, in the order in which they are checked."""

from __future__ import annotations

from unlabeled.testing import learning, pieces, promises, steps
from unlabeled.testing.rule import Rule

RULES: tuple[Rule, ...] = (
    steps.gradients_reach_what_is_trainable,
    steps.frozen_parameters_are_moved_by_after_step_alone,
    steps.forward_writes_nothing,
    steps.forward_gives_a_loss,
    steps.the_same_step_gives_the_same_bits,
    steps.a_run_that_is_resumed_has_the_same_bits,
    steps.bfloat16_is_near_float32,
    steps.odd_batches_work,
    steps.a_queue_is_read_before_it_is_written,
    steps.a_copy_follows_its_network,
    promises.options_are_documented,
    promises.options_survive_a_recipe,
    promises.what_costs_more_in_a_later_epoch_is_said,
    promises.a_perfect_match_costs_nothing,
    promises.g_makes_an_embedding_of_a_representation,
    promises.samples_are_drawn_by_weights,
    pieces.pieces_give_the_gradient_of_the_whole,
    pieces.pieces_in_bfloat16_are_as_near,
    pieces.both_passes_of_pieces_see_the_same,
    learning.it_learns_without_collapse,
)
