"""Scores are shares of the answers asked for, and None where there is nothing to compare."""

import io
from math import log
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from sft_research.answers import Answer
from sft_research.evaluate import Evaluation, Judge, Scores, score
from sft_research.tokens import Data, Encoded
from tests.toys import Bigram, Speaker, example
from tests.trainers import made

TAGS = ["<think>", "</think>"]


def said(text, expected="<think>\n1+1=2\n</think>\n\n2", stopped=True):
    return Answer("1+1?", expected, text, stopped)


RIGHT = said("<think>\neasy\n</think>\n\n2")
WRONG = said("<think>\neasy\n</think>\n\n3")
RIGHT_WITHOUT_A_THOUGHT = said("2")
RIGHT_WITHOUT_AN_END = said("<think>\neasy\n</think>\n\n2", stopped=False)
STILL_THINKING = said("<think>\n2", stopped=False)


@pytest.mark.parametrize(
    ("answers", "exact_match", "form"),
    [
        ([RIGHT], 1.0, 1.0),
        ([WRONG], 0.0, 1.0),
        ([RIGHT_WITHOUT_A_THOUGHT], 1.0, 0.0),
        ([RIGHT_WITHOUT_AN_END], 1.0, 0.0),
        ([STILL_THINKING], 0.0, 0.0),
        ([RIGHT, WRONG, RIGHT_WITHOUT_A_THOUGHT, STILL_THINKING], 0.5, 0.5),
        ([RIGHT, WRONG, WRONG, STILL_THINKING], 0.25, 0.75),
    ],
    ids=["right", "wrong", "no-thought", "no-end", "thinking", "four", "four-others"],
)
def test_right_answers_and_answers_in_form_are_shares_of_all(answers, exact_match, form):
    assert score(answers, loss=1.5, checkable=True, think_tags=TAGS) == Scores(
        loss=1.5, questions=len(answers), exact_match=exact_match, form=form
    )


def test_gsm8k_answers_are_compared_after_their_hashes():
    answers = [said("7*6 = 42\n#### 42", "6*7=42\n#### 42"), said("42", "6*7=42\n#### 42")]
    answers += [said("6*7=42\n#### 41", "6*7=42\n#### 42"), said("No idea", "6*7=42\n#### 42")]
    assert score(answers, None, checkable=True, think_tags=None).exact_match == 0.5


def test_answers_without_one_right_text_have_no_exact_match():
    assert score([RIGHT], 1.5, checkable=False, think_tags=TAGS) == Scores(
        loss=1.5, questions=1, exact_match=None, form=1.0
    )


def test_no_answers_have_no_shares():
    assert score([], None, checkable=True, think_tags=TAGS) == Scores(
        loss=None, questions=0, exact_match=None, form=None
    )


# Judge --------------------------------------------------------------------------------------------


@pytest.fixture
def judge(tiny_folder):
    """A judge of rows, on a model that says "2" to "1" and "3" to "2", and whose loss is ln 259 everywhere."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    model = Bigram([[1 / 259] * 259] * 259)
    model.generate = Speaker({19: [20, 2], 20: [21, 2]}, pad=0).generate

    def made(rows, questions):
        data = Data(tokenizer, Encoded([], 0, 0), Encoded(rows, 0, 0), added_tokens=[], checkable=True)
        return Judge(
            model,
            data,
            Evaluation(questions, max_new_tokens=4, batch_size=2),
            None,
            io.StringIO(),
            lambda when: None,
        )

    return made


# "1" -> "2" is right; "2" -> "4" is not what the model says, and so on.
ROWS = [example([19], [20, 2], "2"), example([20], [22, 2], "4"), example([20], [21, 2], "3")]


@pytest.mark.parametrize(("questions", "exact_match"), [(1, 1.0), (2, 0.5), (3, 2 / 3), (99, 2 / 3)])
def test_the_first_questions_are_answered_and_the_loss_is_of_all_rows(judge, questions, exact_match):
    judging = judge(ROWS, questions)
    judged = judging("before")
    assert [one.text for one in judged.answers] == ["2", "3", "3"][:questions]
    assert judged.scores.exact_match == exact_match
    assert [one.right for one in judged.answers] == [True, False, True][:questions]
    assert judged.scores.loss == pytest.approx(log(259), rel=1e-6)
    assert sum(rows for rows, _ in judging.model.widths) == 3


def test_a_loss_that_is_known_is_not_measured_again(judge):
    judging = judge(ROWS, questions=1)
    assert judging("after", known_loss=0.5).scores == Scores(0.5, questions=1, exact_match=1.0, form=1.0)
    assert judging.model.widths == []


def test_without_questions_there_is_a_loss_alone(judge):
    judging = judge(ROWS, questions=0)
    judged = judging("before")
    assert judged.scores == Scores(pytest.approx(log(259), rel=1e-6), 0, exact_match=None, form=None)
    assert (judged.answers, judging.console.getvalue()) == ([], "")


def test_without_held_out_rows_there_is_nothing(judge):
    judged = judge([], questions=5)("before")
    assert (judged.scores, judged.answers) == (Scores(None, 0, exact_match=None, form=None), [])


def test_the_console_says_when_it_was_asked_and_how_far_it_is(judge):
    judging = judge(ROWS, questions=3)
    judging("after 40 steps")
    last = judging.console.getvalue().split("\r")[-1]
    assert last.startswith("answers after 40 steps: 100%")
    assert "3/3" in last


def test_scores_before_training_and_after_it_are_of_one_precision(tmp_path: Path) -> None:
    """Training leaves a model in autocast: the same weights must not score otherwise for it."""
    made_ = made(tmp_path, "model.dtype=bfloat16", "training.max_steps=1", "training.eval_strategy=no")
    trainer, settings = made_.trainer, Evaluation(questions=4, max_new_tokens=6, batch_size=4)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    judge = Judge(trainer.model, made_.data, settings, None, io.StringIO(), lambda when: None)
    before = judge("before")
    trainer.accelerator.prepare(trainer.model)
    assert judge("after") == before
    ids = torch.tensor([made_.data.held_out.examples[0].input_ids])
    alone = type(trainer.model).forward(trainer.model, input_ids=ids).logits
    assert not torch.equal(trainer.model(input_ids=ids).logits, alone.float())
