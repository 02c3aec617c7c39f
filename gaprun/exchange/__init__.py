"""Results and models to and from open_clip, CLIP_benchmark, mteb, W&B, TensorBoard, MLflow and Parquet."""
