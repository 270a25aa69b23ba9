#!/usr/bin/env bash
# What only an accelerator can show, on one data-centre GPU or TPU in about a quarter of an hour.
#
#     experiments/accelerator.sh OUT DATASET      # DATASET: a D4RL-format HDF5 file; the environment has pgd_jax installed
#
#     minutes   what                                                                      writes
#     5         rates of sampling and learning at the reference's sizes, 1, 8, 32 lanes   OUT/full.json
#     3         the same with the network in float32: what bfloat16 is worth              OUT/full_float32.json
#     7         claim 1 at the reference's sizes, as far as MINUTES reach                 OUT/denoiser, OUT/real, OUT/synthetic
#
# MINUTES (7) is what the last part may take. It stops after the chunk in progress; the same command goes on, so that a
# second loan carries on where the first one ended, if OUT was kept. Every part has a limit: one that fails, or takes too
# long, stops none of the others.
set -uo pipefail
out=${1:?name a folder for the results} dataset=${2:?name an HDF5 file in the layout of D4RL}
deadline=$((SECONDS + 60 * (8 + ${MINUTES:-7})))
mkdir -p "$out"
python -c 'import jax; print(jax.devices())'

timeout 300 python -m experiments.bench --setting=full --num_repeats=3 --out="$out/full.json"
timeout 180 python -m experiments.bench --setting=full_float32 --num_repeats=2 --out="$out/full_float32.json"

# Runs its arguments until the deadline; a signal stops a run between two chunks, with a checkpoint.
until_deadline() {
    local left=$((deadline - SECONDS))
    ((left > 20)) && timeout --signal=TERM --kill-after=60 "$left" "$@"
}

# 1024 channels, three levels, bfloat16, windows of 32 rows; fewer steps than the reference's 100,000.
until_deadline pgd-train-denoiser --preset=paper --workdir="$out/denoiser" --config.data.dataset="$dataset" \
    --config.training.num_steps="${DENOISER_STEPS:-6000}" --config.training.steps_per_chunk=500 || exit 0
common=(--preset=paper --config.denoiser="$out/denoiser" --config.num_phases=20 --config.updates_per_phase=5000
    --config.num_seeds=8 --config.first_seed=200 --config.num_episodes=0 --config.host_episodes=10
    --config.dynamics_windows=0)
until_deadline pgd-train-agent "${common[@]}" --workdir="$out/real" --config.synthetic_per_batch=0
until_deadline pgd-train-agent "${common[@]}" --workdir="$out/synthetic" --config.sampling.sampler=dpmpp_2m_sde \
    --config.sampling.num_steps=32 --config.sampling.guidance=proximal --config.sampling.num_trajectories=2048 \
    --config.hyper.generator.sigma_min=0.01 --config.hyper.generator.sigma_max=20 \
    --config.hyper.generator.guidance.sigma_max=2 --config.hyper.generator.guidance_coefficient=0,30
pgd-report --runs="$out/real,$out/synthetic" --out="$out/report" || true
