"""Some headline numbers of a run, flat, so that ``dvc exp show`` and ``dvc metrics diff`` print one readable line an experiment.

metrics.json has every method and column with its interval; that is too many columns for a table of experiments.
"""

from __future__ import annotations

from pipeline.reporting.results import Results

__all__ = ["HEADLINES", "headline_numbers"]

#: Name in the summary -> row and column of the result table.
HEADLINES: dict[str, tuple[str, str]] = {
    "paired_psnr_face_db": ("flowvqtalker_paired", "psnr_face_db"),
    "paired_m_lmd_px": ("flowvqtalker_paired", "m_lmd_centred_px"),
    "paired_lip_correlation": ("flowvqtalker_paired", "lip_correlation"),
    "paired_lse_d": ("flowvqtalker_paired", "lse_d"),
    "paired_emotion_pct": ("flowvqtalker_paired", "emotion_acc_pct"),
    "paired_fid": ("flowvqtalker_paired", "fid_expert"),
    "free_blinks_per_s": ("flowvqtalker_free", "blinks_per_s"),
    "free_pose_deg": ("flowvqtalker_free", "pose_over_time_deg"),
    "regression_lse_d": ("regression", "lse_d"),
    "shuffled_lse_d": ("shuffled_audio", "lse_d"),
    "fitted_psnr_face_db": ("vqig_on_fitted", "psnr_face_db"),
    "ceiling_psnr_face_db": ("codebook_ceiling", "psnr_face_db"),
    "real_emotion_pct": ("ground_truth", "emotion_acc_pct"),
    "real_lse_d": ("ground_truth", "lse_d"),
}
#: Name in the summary -> number of the chosen flow's training (validation clips).
_FLOW = {"expflow_bits": "expflow_held_out_bits_per_dim", "poseflow_bits": "poseflow_held_out_bits_per_dim"}


def headline_numbers(results: Results, flow_variant: str) -> dict[str, float]:
    """Headline numbers by name; what a run did not measure is left out.

    Args:
        results: of the run.
        flow_variant: the flow that ``generate.flow_variant`` chooses, "" for none.
    """
    training = next((one.metrics for one in results.trainings if one.name == f"flow/{flow_variant}"), {})
    numbers = {name: training[column] for name, column in _FLOW.items() if column in training}
    for name, (row, column) in HEADLINES.items():
        score = results.scores.get(row, {}).get(column)
        if score is not None and score.value is not None:
            numbers[name] = score.value
    verdicts = [check["pass"] for check in results.checks if check.get("pass") is not None]
    return numbers | ({"checks_failed": float(verdicts.count(False))} if verdicts else {})
