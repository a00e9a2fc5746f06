#!/usr/bin/env bash
# Makes the figures and pictures of docs/transfer.md, docs/stages.md and docs/inspecting.md from the
# nuclei of this repository: a training of all layers on many images, then three on eight images, from
# random weights and twice from its weights. About half an hour on two cores.
#
#   bash scripts/guide_runs.sh [FOLDER FOR DATA, RUNS AND REPORTS]
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
work="${1:-$root/build/guide_runs}"
mrcnn=("$root/.venv/bin/python" -m mrcnn)
export PYTHONPATH="$root" KERAS_BACKEND=tensorflow

rm -rf "$work"
mkdir -p "$work/few"
tar xzf "$root/samples/nucleus/nuclei_small.tar.gz" -C "$work"
cd "$work"
mv nuclei/train many
mv nuclei/val val
rm -r nuclei
ls many | tail -8 | while read -r name; do mv "many/$name" few/; done

# Random weights need a normalisation that learns, and Adam for so few steps.
settings=(--set IMAGE_MAX_DIM=256 --set IMAGE_MIN_SCALE=0 --set TRAIN_ROIS_PER_IMAGE=100
  --set TRAIN_BN=True --set OPTIMIZER=adamw --set LEARNING_RATE=0.0003)

train() { # name, data, further options
  local name="$1" data="$2"
  shift 2
  echo "== $name"
  SECONDS=0
  "${mrcnn[@]}" train "$data" --val val --name "$name" --batch-size 2 "${settings[@]}" "$@"
  echo "== $name: $SECONDS s"
}

train base many --weights random --layers all --epochs 14
base="$(ls -d logs/base*)"
short=(--epochs 5 --set STEPS_PER_EPOCH=20)
train scratch few --weights random --layers all "${short[@]}"
train heads few --weights "$base/mask_rcnn_base_best.h5" --layers heads "${short[@]}"
train all few --weights "$base/mask_rcnn_base_best.h5" --layers all "${short[@]}"
for run in base scratch heads all; do
  echo "== $run"
  "${mrcnn[@]}" evaluate logs/"$run"2* val --output "evaluation_$run"
done
"${mrcnn[@]}" inspect data few --output data
"${mrcnn[@]}" inspect model "$base" val --limit 5 --output model

# TensorBoard as a browser shows it, where there is Chromium.
if command -v chromium > /dev/null; then
  "$root/.venv/bin/tensorboard" --logdir logs --port 6106 > tensorboard.log 2>&1 &
  board=$!
  sleep 20
  for tab in scalars images; do
    chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --window-size=1280,900 \
      --virtual-time-budget=25000 --user-data-dir="$work/browser" \
      --screenshot="$work/tensorboard_$tab.png" "http://localhost:6106/?darkMode=false#$tab" \
      > browser.log 2>&1
  done
  kill "$board"
fi

"$root/.venv/bin/python" - "$root/docs/images" <<'PYTHON'
"""Copy the pictures that the guides show, with fewer colours."""
import sys
from pathlib import Path

import PIL.Image

PICTURES = {
    "data/*_images.png": "data_ground_truth",
    "data/*_anchors_that_train_the_rpn.png": "data_rpn_targets",
    "model/*_p2_to_p6.png": "model_features",
    "model/*_best_score_of_each_cell.png": "model_rpn_scores",
    "model/*_before_and_after.png": "model_deltas",
    "model/*_suppression.png": "model_proposals",
    "model/*_rois_that_train_the_heads.png": "model_targets",
    "model/*_class_and_mask_of_positive_rois.png": "model_target_masks",
    "model/*_boxes.png": "model_detections",
    "model/*_masks.png": "model_masks",
    "model/08_*.png": "model_final",
    "tensorboard_scalars.png": "tensorboard_scalars",
    "tensorboard_images.png": "tensorboard_images",
}
for pattern, name in PICTURES.items():
    for path in Path().glob(pattern):
        with PIL.Image.open(path) as image:
            image.thumbnail((1000, 1000))
            small = image.convert("RGB").quantize(128)
            small.save(Path(sys.argv[1], f"{name}.png"), optimize=True)
PYTHON
