"""What a run leaves behind and says of itself.

checkpoint  a workdir's latest steps and its best; checkpoint_folder saves, verifies and
            restores one step (orbax), digests says what is compared
trained     a workdir's best network, and layers that another run takes from it
workdir     whether a folder can be used for a run, and whose it is
writers     metrics.jsonl and TensorBoard (clu); events takes its files back to a step
inputs      class names and mean image, which travel with the weights
transfer    a workdir's network out to files of weights, and a foreign one in
config_file the config as a workdir keeps it
provenance  config, code, versions, devices, command
progress    a run's length, where its time goes, and its lines in the terminal
log_window  the steps between two log lines
nonfinite   what is kept of a loss that is not finite, and the policy
health      signs that a run learns nothing
overview    what is printed before the first step and after the last
pictures    first kernels, augmented images, histograms
"""
