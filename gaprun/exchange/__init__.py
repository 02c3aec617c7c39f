"""Results and models to and from open_clip, CLIP_benchmark, mteb, TensorBoard, MLflow and Parquet."""
