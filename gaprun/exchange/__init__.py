"""Results and models to and from open_clip, CLIP_benchmark, TensorBoard, MLflow and Parquet."""
