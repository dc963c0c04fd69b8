"""Any source to square records, records to batches; the home of tfds, grain and tf.

sources      what a source is: `folders`, a folder of images; `tfds_sets`, of TFDS
images       one image file to the pixels that are stored
photographs files and folders of images, read for a trained network
shards       the files of records, and the processes that write them
prepared     a prepared set on disk
prepare      making one, and opening it
pipeline     reading it: batches, with `augment`
splits       what `train[:90%]+test` reads; `hashing`, the order it counts in
disk         whole arrays, a lock, room enough
"""
