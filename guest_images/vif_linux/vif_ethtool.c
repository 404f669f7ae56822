// SPDX-License-Identifier: GPL-2.0
/* What `ethtool` shows of a VIF (`psapp role=statistics` shows it, too). */
#include "vif_device.h"

/* Statistics for ethtool: the device's registers, then the driver's own. */
static const struct {
    char name[ETH_GSTRING_LEN];
    unsigned int at;
} vif_counters[] = {
    {"device_sent", VIF_SENT},
    {"device_received", VIF_RECEIVED},
    {"device_send_errors", VIF_SEND_ERRORS},
    {"device_receive_errors", VIF_RECEIVE_ERRORS},
    {"device_receive_drops", VIF_RECEIVE_DROPS},
    {"device_signals", VIF_SIGNALS},
};
static const char vif_own_counters[][ETH_GSTRING_LEN] = {"interrupts", "polls", "full_rings"};

static int vif_get_sset_count(struct net_device *netdev, int set) {
    return set == ETH_SS_STATS ? ARRAY_SIZE(vif_counters) + ARRAY_SIZE(vif_own_counters) : -EOPNOTSUPP;
}

static void vif_get_strings(struct net_device *netdev, u32 set, u8 *data) {
    unsigned int i;

    if (set != ETH_SS_STATS) return;
    for (i = 0; i < ARRAY_SIZE(vif_counters); i++, data += ETH_GSTRING_LEN)
        memcpy(data, vif_counters[i].name, ETH_GSTRING_LEN);
    memcpy(data, vif_own_counters, sizeof vif_own_counters);
}

static void vif_get_ethtool_stats(struct net_device *netdev, struct ethtool_stats *stats, u64 *data) {
    struct vif_device *vif = netdev_priv(netdev);
    unsigned int i;

    for (i = 0; i < ARRAY_SIZE(vif_counters); i++) *data++ = readl(vif->registers + vif_counters[i].at);
    *data++ = vif->interrupts;
    *data++ = vif->polls;
    *data++ = vif->full_rings;
}

static void vif_get_drvinfo(struct net_device *netdev, struct ethtool_drvinfo *info) {
    struct vif_device *vif = netdev_priv(netdev);

    strscpy(info->driver, "vif", sizeof info->driver);
    strscpy(info->bus_info, pci_name(vif->pci), sizeof info->bus_info);
}

const struct ethtool_ops vif_ethtool_operations = {
    .get_drvinfo = vif_get_drvinfo,
    .get_link = ethtool_op_get_link,
    .get_sset_count = vif_get_sset_count,
    .get_strings = vif_get_strings,
    .get_ethtool_stats = vif_get_ethtool_stats,
};
